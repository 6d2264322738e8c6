import { createRunner } from "@klatsch/kit";
import type { Clock, EffectRunner, Logger, Random } from "@klatsch/kit";
import { decodeStateMessage, encodeStateMessage, STATE_KEY_PATTERN } from "../codec/state-codec.ts";
import { decodeStateValue, encodeStateValue } from "../codec/state-value.ts";
import type { StateMessage } from "../core/state/messages.ts";
import { OWN_LIMITS } from "../core/state/own-entries.ts";
import type { OwnChange } from "../core/state/own-entries.ts";
import { RESERVED_PREFIX } from "../core/state/own-writer.ts";
import type { OwnLimit } from "../core/state/own-writer.ts";
import { StateCore } from "../core/state/state-core.ts";
import type { StateEffect, StateInput, StateTimes } from "../core/state/state-types.ts";
import { MeshError } from "../errors.ts";
import type { MeshState, StateChange, StateEntry, StateFilter, StateValue } from "../state-types.ts";

/** Messages of a peer that wait until membership has told of its link; the rest is found by comparing. */
const EARLY_MAX = 64;

/** What gossip state asks of the mesh around it. */
export interface StateHostInit {
  readonly self: string;
  readonly boot: number;
  readonly times: StateTimes;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** `false`: not sent. */
  send(peer: string, payload: Uint8Array): boolean;
  raiseBoot(above: number): void;
  onFailed(error: Error): void;
}

interface Watcher {
  readonly filter: StateFilter;
  readonly listener: (change: StateChange) => void;
}

/** Gossip state of this process: runs the core, and is what the application sees of it. */
export class StateHost implements MeshState {
  readonly #init: StateHostInit;
  readonly #core: StateCore;
  readonly #runner: EffectRunner<StateInput, StateEffect>;
  readonly #watchers = new Set<Watcher>();
  readonly #linked = new Set<string>();
  readonly #early = new Map<string, StateMessage[]>();
  #stopped = false;

  constructor(init: StateHostInit) {
    const { self, boot, times, random, clock } = init;
    this.#init = init;
    this.#core = new StateCore({ self, boot, times, random }, clock.now());
    this.#runner = createRunner({
      core: this.#core,
      clock,
      tick: { type: "tick" },
      phase: () => "now",
      perform: (effect) => this.#perform(effect),
      commit: (_records, done) => queueMicrotask(() => done(undefined, 0)),
      onFailed: (error) => init.onFailed(error instanceof Error ? error : new Error(String(error))),
    });
  }

  // ── what the mesh tells ────────────────────────────────────────────────────────────────────────

  /** Hands over what membership or links found out. */
  enter(input: StateInput): void {
    if (input.type === "linkDown") {
      this.#linked.delete(input.peer);
      this.#early.delete(input.peer);
    }
    this.#runner.enter(input);
    if (input.type !== "linkUp") return;
    this.#linked.add(input.peer);
    const early = this.#early.get(input.peer) ?? [];
    this.#early.delete(input.peer);
    for (const message of early) this.#runner.enter({ type: "message", peer: input.peer, message });
  }

  /** Bytes of a linked peer. `false`: undecodable. */
  receive(peer: string, payload: Uint8Array): boolean {
    const message = decodeStateMessage(payload);
    if (message === undefined) return false;
    if (this.#linked.has(peer)) this.#runner.enter({ type: "message", peer, message });
    else this.#wait(peer, message);
    return true;
  }

  /** Ends at once. */
  stop(): void {
    this.#stopped = true;
    this.#runner.stop();
    this.#watchers.clear();
  }

  // ── for the application ────────────────────────────────────────────────────────────────────────

  set(key: string, value: StateValue): void {
    assertKey(key);
    assertOurs(key);
    this.setReserved(key, value);
  }

  delete(key: string): boolean {
    assertKey(key);
    assertOurs(key);
    return this.#write(key, undefined);
  }

  /** {@link set} for keys of the mesh's own, which begin with `klatsch/`. */
  setReserved(key: string, value: StateValue): void {
    const bytes = encodeStateValue(value);
    if (bytes === undefined) {
      throw new MeshError("STATE_INVALID", `the value of ${key} is no plain data, or nested too deep`);
    }
    this.#write(key, bytes);
  }

  get(peerId: string, key: string): StateValue | undefined {
    const bytes = this.#core.ownValue(peerId, key);
    return bytes === undefined ? undefined : decodeStateValue(bytes);
  }

  entries(filter: StateFilter = {}): readonly StateEntry[] {
    const peers = filter.peerId === undefined ? this.#core.owners() : [filter.peerId];
    return peers.toSorted().flatMap((peerId) => {
      const own = this.#core.ownOf(peerId);
      if (own === undefined) return [];
      const meant = [...own.values].filter(([key]) => isMeant(filter, peerId, key));
      return meant
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([key, bytes]) => ({ peerId, key, value: decodeStateValue(bytes), boot: own.boot }));
    });
  }

  watch(filter: StateFilter, listener: (change: StateChange) => void): () => void {
    const watcher: Watcher = { filter: { ...filter }, listener };
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }

  // ── inside ─────────────────────────────────────────────────────────────────────────────────────

  #write(key: string, bytes: Uint8Array | undefined): boolean {
    if (this.#stopped) throw new MeshError("STOPPED", "the mesh has stopped");
    const outcome = this.#core.write(key, bytes);
    if (outcome === "unchanged") return false;
    if (outcome !== "written") throw tooLarge(key, outcome);
    this.#runner.enter({ type: "tick" });
    return true;
  }

  #wait(peer: string, message: StateMessage): void {
    const early = this.#early.get(peer) ?? [];
    if (early.length < EARLY_MAX) early.push(message);
    this.#early.set(peer, early);
  }

  #perform(effect: StateEffect): void {
    switch (effect.type) {
      case "send":
        for (const payload of encodeStateMessage(effect.message)) this.#init.send(effect.to, payload);
        return;
      case "ownChanged":
        this.#tell(effect.change);
        return;
      case "raiseBoot":
        this.#init.raiseBoot(effect.above);
        return;
      case "refused":
        this.#init.logger.warn("state of a peer refused", { peerId: effect.peer, reason: effect.reason });
        return;
    }
  }

  #tell({ peer, boot, key, value }: OwnChange): void {
    for (const { filter, listener } of [...this.#watchers]) {
      if (!isMeant(filter, peer, key)) continue;
      const decoded = value === undefined ? undefined : decodeStateValue(value);
      try {
        listener({ peerId: peer, key, value: decoded, boot });
      } catch (error) {
        this.#init.logger.error("a state listener threw", { err: error, key });
      }
    }
  }
}

function isMeant(filter: StateFilter, peerId: string, key: string): boolean {
  if (filter.peerId !== undefined && filter.peerId !== peerId) return false;
  if (filter.key !== undefined && filter.key !== key) return false;
  return filter.prefix === undefined || key.startsWith(filter.prefix);
}

function assertKey(key: string): void {
  if (STATE_KEY_PATTERN.test(key)) return;
  throw new MeshError(
    "STATE_INVALID",
    `a key has 1 to 128 characters of A-Z a-z 0-9 . _ : @ / -, not ${key}`,
  );
}

function assertOurs(key: string): void {
  if (!key.startsWith(RESERVED_PREFIX)) return;
  throw new MeshError("FORBIDDEN", `keys that begin with ${RESERVED_PREFIX} are the mesh's own: ${key}`);
}

const LIMIT_TEXTS: Readonly<Record<OwnLimit, string>> = {
  valueBytesMax: "bytes for one value, encoded",
  keysMax: "keys of one node",
  nodeBytesMax: "bytes for all keys and values of one node",
};

function tooLarge(key: string, limit: OwnLimit): MeshError {
  const what = `${limit} is ${OWN_LIMITS[limit]} (${LIMIT_TEXTS[limit]})`;
  return new MeshError("STATE_TOO_LARGE", `${key} does not fit: ${what}`);
}
