import type { Logger } from "@klatsch/kit";
import { decodeStateValue } from "../codec/state-value.ts";
import { SKEW_MS_MAX } from "../core/state/hybrid-clock.ts";
import type { SharedEntry as CoreEntry } from "../core/state/messages.ts";
import { SHARED_LIMITS } from "../core/state/shared-entries.ts";
import type { SharedLimit } from "../core/state/shared-entries.ts";
import type { StateCore } from "../core/state/state-core.ts";
import type { ShareOutcome, StateInput } from "../core/state/state-types.ts";
import { MeshError } from "../errors.ts";
import type { KeyFilter, SharedChange, SharedEntry, SharedState, StateValue } from "../state-types.ts";
import { isSet } from "./given.ts";
import {
  assertKey,
  assertNotReserved,
  checkedFilter,
  encodeOrThrow,
  isKeyMeant,
  Watchers,
} from "./state-api.ts";

/** Writes that may wait for the disk at once. */
const WRITES_MAX = 1_024;

interface Waiting {
  readonly key: string;
  readonly resolve: (changed: boolean) => void;
  readonly reject: (error: MeshError) => void;
}

/** Shared entries as the application sees them. */
export class SharedHost implements SharedState {
  readonly #core: StateCore;
  readonly #enter: (input: StateInput) => void;
  readonly #watchers: Watchers<SharedChange>;
  readonly #waiting = new Map<number, Waiting>();
  #lastRequest = 0;
  #stopped = false;

  constructor(core: StateCore, enter: (input: StateInput) => void, logger: Logger) {
    this.#core = core;
    this.#enter = enter;
    this.#watchers = new Watchers(logger, (filter, { key }) => isKeyMeant(filter, key));
  }

  async set(
    key: string,
    value: StateValue,
    options?: { readonly override?: boolean | undefined },
  ): Promise<void> {
    assertKey(key);
    await this.#write(key, encodeOrThrow(key, value), isSet(options, "override", false));
  }

  async delete(key: string, options?: { readonly override?: boolean | undefined }): Promise<boolean> {
    return await this.#write(key, undefined, isSet(options, "override", false));
  }

  get(key: string): StateValue | undefined {
    const value = this.#core.shared(key)?.value;
    return value === undefined ? undefined : decodeStateValue(value);
  }

  entries(filter: KeyFilter = {}): readonly SharedEntry[] {
    const wanted = checkedFilter(filter);
    const { key: only } = wanted;
    // All of them are up to 16,384: one is looked up.
    const known = only === undefined ? this.#core.sharedEntries() : [this.#core.shared(only) ?? []].flat();
    const meant = [...known].filter(({ key }) => isKeyMeant(wanted, key));
    return meant
      .sort((a, b) => (a.key < b.key ? -1 : 1))
      .flatMap((entry) =>
        entry.value === undefined ? [] : { ...about(entry), value: decodeStateValue(entry.value) },
      );
  }

  watch(filter: KeyFilter, listener: (change: SharedChange) => void): () => void {
    return this.#watchers.add(filter, listener);
  }

  /** A write is on disk, or was not made. */
  onReply(request: number, outcome: ShareOutcome): void {
    const waiting = this.#waiting.get(request);
    this.#waiting.delete(request);
    if (waiting === undefined) return;
    if (outcome === "written" || outcome === "unchanged") waiting.resolve(outcome === "written");
    else waiting.reject(refusalOf(waiting.key, outcome));
  }

  onChange(entry: CoreEntry): void {
    this.#watchers.tell(() => {
      const value = entry.value === undefined ? undefined : decodeStateValue(entry.value);
      return { ...about(entry), value };
    });
  }

  /** Takes no more writes. */
  close(): void {
    this.#stopped = true;
  }

  /** What waits still is not on disk, or was not confirmed. */
  stop(): void {
    this.close();
    this.#watchers.clear();
    for (const { key, reject } of this.#waiting.values()) {
      const message = `the mesh has stopped before ${key} was on disk`;
      reject(new MeshError("STOPPED", message, { outcome: "unknown" }));
    }
    this.#waiting.clear();
  }

  async #write(key: string, value: Uint8Array | undefined, override: boolean): Promise<boolean> {
    assertKey(key);
    assertNotReserved(key);
    if (this.#stopped) throw new MeshError("STOPPED", "the mesh has stopped");
    if (this.#waiting.size >= WRITES_MAX) {
      const message = `${WRITES_MAX} writes of shared state wait for the disk already`;
      throw new MeshError("LIMIT_REACHED", message, { retryable: true });
    }
    this.#lastRequest += 1;
    const request = this.#lastRequest;
    return new Promise((resolve, reject) => {
      this.#waiting.set(request, { key, resolve, reject });
      this.#enter({ type: "share", request, key, value, override });
    });
  }
}

function about({ key, writer, l }: CoreEntry): Omit<SharedEntry, "value"> {
  return { key, writer, writtenWallMs: l };
}

const LIMIT_TEXTS: Readonly<Record<SharedLimit, string>> = {
  valueBytesMax: "bytes for one value, encoded",
  keysMax: "keys of the whole mesh, those deleted in the last 30 days included",
  meshBytesMax: "bytes for all entries of the mesh",
};

function refusalOf(key: string, outcome: Exclude<ShareOutcome, "written" | "unchanged">): MeshError {
  switch (outcome) {
    case "forbidden":
      return new MeshError("FORBIDDEN", `this node may not write ${key}`);
    case "overridden":
      return new MeshError("FORBIDDEN", `${key} was written with \`override\`: write it so, too`);
    case "ahead": {
      const message = `${key} was last written when clocks were more than ${SKEW_MS_MAX / 1_000} s ahead: the mesh's time has to come near that first`;
      return new MeshError("CLOCK_SKEW", message, { retryable: true });
    }
    case "skew": {
      const message = `this machine's clock is more than ${SKEW_MS_MAX / 1_000} s off its neighbours': set it right`;
      return new MeshError("CLOCK_SKEW", message, { retryable: true });
    }
    case "valueBytesMax":
    case "keysMax":
    case "meshBytesMax": {
      const what = `${outcome} is ${SHARED_LIMITS[outcome]} (${LIMIT_TEXTS[outcome]})`;
      return new MeshError("STATE_TOO_LARGE", `${key} does not fit: ${what}`);
    }
  }
}
