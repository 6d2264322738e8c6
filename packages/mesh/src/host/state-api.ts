import { callListener, excerpt } from "@klatsch/kit";
import type { Logger } from "@klatsch/kit";
import { STATE_KEY_PATTERN } from "../codec/state-codec.ts";
import { encodeStateValue } from "../codec/state-value.ts";
import { RESERVED_PREFIX } from "../core/state/own-writer.ts";
import { MeshError, readable } from "../errors.ts";
import type { KeyFilter, StateFilter, StateValue } from "../state-types.ts";
import { checkFunction, checkObject, checkText } from "./given.ts";

/** @throws MeshError `STATE_INVALID`; `INVALID_OPTIONS` for what is no text. */
export function assertKey(key: string): void {
  checkText("key", key); // A pattern would take a number for its digits.
  if (STATE_KEY_PATTERN.test(key)) return;
  throw new MeshError(
    "STATE_INVALID",
    `a key has 1 to 128 characters of A-Z a-z 0-9 . _ : @ / -, not ${excerpt(key)}`,
  );
}

/** @throws MeshError `FORBIDDEN`. */
export function assertNotReserved(key: string): void {
  if (!key.startsWith(RESERVED_PREFIX)) return;
  throw new MeshError("FORBIDDEN", `keys that begin with ${RESERVED_PREFIX} are the mesh's own: ${key}`);
}

/** @throws MeshError `STATE_INVALID`. */
export function encodeOrThrow(key: string, value: StateValue): Uint8Array {
  let bytes: Uint8Array | undefined;
  let cause: unknown;
  try {
    bytes = encodeStateValue(value);
  } catch (error) {
    cause = error; // A getter of its, or a proxy.
  }
  if (bytes !== undefined) return bytes;
  const why = "is no plain data, nested deeper than 16, or has a key __proto__";
  throw new MeshError("STATE_INVALID", `the value of ${key} ${why}`, { cause });
}

/** A filter as it is now. @throws MeshError `INVALID_OPTIONS`. */
export function checkedFilter(filter: StateFilter): StateFilter {
  return readable("filter", () => {
    checkObject("filter", filter);
    const { peerId, key, prefix } = filter;
    for (const [field, value] of Object.entries({ peerId, key, prefix }))
      if (value !== undefined) checkText(`filter.${field}`, value);
    return { peerId, key, prefix };
  });
}

export function isKeyMeant(filter: KeyFilter, key: string): boolean {
  if (filter.key !== undefined && filter.key !== key) return false;
  // What the mesh says for itself is shown to whoever asks for it by name.
  const asksReserved = filter.key !== undefined || filter.prefix?.startsWith(RESERVED_PREFIX) === true;
  if (key.startsWith(RESERVED_PREFIX) && !asksReserved) return false;
  return filter.prefix === undefined || key.startsWith(filter.prefix);
}

/** Listeners with what they asked for. One that throws or rejects is logged and harms neither the others nor us. */
export class Watchers<Change> {
  readonly #logger: Logger;
  readonly #isMeant: (filter: StateFilter, change: Change) => boolean;
  readonly #watchers = new Set<{
    readonly filter: StateFilter;
    readonly listener: (change: Change) => unknown;
  }>();

  constructor(logger: Logger, isMeant: (filter: StateFilter, change: Change) => boolean) {
    this.#logger = logger;
    this.#isMeant = isMeant;
  }

  /** @throws MeshError `INVALID_OPTIONS`. */
  add(filter: StateFilter, listener: (change: Change) => void): () => void {
    const watcher = { filter: checkedFilter(filter), listener };
    checkFunction("listener", listener);
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }

  /** `copy` makes each listener a change of its own. */
  tell(copy: () => Change): void {
    if (this.#watchers.size === 0) return;
    const change = copy();
    for (const watcher of [...this.#watchers]) {
      const { filter, listener } = watcher;
      // One before it may have ended it.
      if (!this.#watchers.has(watcher) || !this.#isMeant(filter, change)) continue;
      callListener(
        () => listener(copy()),
        (error) => this.#logger.error("a state listener threw", { err: error }),
      );
    }
  }

  clear(): void {
    this.#watchers.clear();
  }
}
