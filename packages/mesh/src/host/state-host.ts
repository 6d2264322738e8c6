import { createRunner } from "@klatsch/kit";
import type { Clock, EffectRunner, Logger, Random } from "@klatsch/kit";
import type { Ed25519PrivateKey } from "@libp2p/interface";
import { decodeStateMessage, encodeStateMessage, hashOfValue, signedBytes } from "../codec/state-codec.ts";
import { decodeStateValue } from "../codec/state-value.ts";
import type { StateMessage } from "../core/state/messages.ts";
import type { MemberEvent } from "../core/membership-types.ts";
import { OWN_LIMITS } from "../core/state/own-entries.ts";
import type { OwnChange } from "../core/state/own-entries.ts";
import type { OwnLimit } from "../core/state/own-writer.ts";
import type { SharedPorts, WriteRequest } from "../core/state/shared-entries.ts";
import { StateCore } from "../core/state/state-core.ts";
import type { StateEffect, StateInput, StateTimes } from "../core/state/state-types.ts";
import { MeshError } from "../errors.ts";
import type {
  MeshState,
  SharedState,
  StateChange,
  StateEntry,
  StateFilter,
  StateValue,
} from "../state-types.ts";
import { checkText } from "./given.ts";
import { SharedHost } from "./shared-state.ts";
import type { SharedStore, StateRecord } from "./shared-store.ts";
import { Signing } from "./signing.ts";
import {
  assertKey,
  assertNotReserved,
  checkedFilter,
  encodeOrThrow,
  isKeyMeant,
  Watchers,
} from "./state-api.ts";

/** Messages of a peer that wait until membership has told of its link; the rest is found by comparing. */
const EARLY_MAX = 64;

/** Shared entries of one input; the runner looks at the clock every few inputs only. */
const PART_ENTRIES = 4;

/** A commit of the store takes 32 MiB; what one message brings may come on top of this. */
const COMMIT_BYTES_MAX: number = 8 * 1024 * 1024;
/** What a record weighs beside its value. */
const RECORD_BYTES = 512;

/** Who may write which shared entry; admission by certificate has a table of its own. */
export interface SharedPolicy {
  /** Whether the writer may write this, judged at the time of the entry. Must decide alike everywhere. */
  mayWrite(request: WriteRequest): boolean;
  /** What goes with this node's entries to show that it may write them. */
  credential(): Uint8Array | undefined;
}

/** What gossip state asks of the mesh around it. */
export interface StateHostInit {
  readonly self: string;
  readonly boot: number;
  readonly mesh: string;
  readonly privateKey: Ed25519PrivateKey;
  readonly store: Pick<SharedStore, "entries" | "agreedAtMs" | "commit" | "close">;
  readonly policy: SharedPolicy;
  readonly times: StateTimes;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly counters: { stateRefused: number };
  /** `false`: not sent. */
  send(peer: string, payload: Uint8Array): boolean;
  /** What a peer sent cannot be by accident: ends its link. */
  disconnect(peer: string, reason: string): void;
  raiseBoot(above: number): void;
  onFailed(error: Error): void;
}

/** Gossip state of this process: runs the core, and is what the application sees of it. */
export class StateHost implements MeshState {
  readonly #init: StateHostInit;
  readonly #core: StateCore;
  readonly #runner: EffectRunner<StateInput, StateEffect>;
  readonly #shared: SharedHost;
  readonly #watchers: Watchers<StateChange>;
  readonly #linked = new Set<string>();
  readonly #early = new Map<string, StateMessage[]>();
  #stopped = false;

  constructor(init: StateHostInit) {
    const { self, boot, times, random, clock, logger, store } = init;
    this.#init = init;
    const shared = { ports: portsOf(init), entries: store.entries, agreedAtMs: store.agreedAtMs };
    this.#core = new StateCore({ self, boot, times, random, shared }, clock.now());
    this.#shared = new SharedHost(this.#core, (input) => this.#runner.enter(input), logger);
    this.#watchers = new Watchers(logger, (filter, { peerId, key }) => isMeant(filter, peerId, key));
    this.#runner = createRunner({
      core: this.#core,
      clock,
      tick: { type: "tick" },
      phase: phaseOf,
      perform: (effect) => this.#perform(effect),
      commit: (records, done) => store.commit(records as readonly StateRecord[], (error) => done(error, 0)),
      weight: bytesOf,
      batchWeightMax: COMMIT_BYTES_MAX,
      onFailed: (error) => this.#fail(error),
    });
    this.#runner.enter({ type: "tick" });
  }

  get shared(): SharedState {
    return this.#shared;
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
    for (const message of early) this.#take(input.peer, message);
  }

  /** Only members have state. */
  follow(change: MemberEvent["type"], peer: string, boot: number): void {
    if (change === "joined") this.enter({ type: "joined", peer, boot });
    else if (change === "forgotten") this.enter({ type: "forgotten", peer });
    else if (change === "died" || change === "stopped" || change === "left")
      this.enter({ type: "ended", peer });
  }

  /** A PING or ACK leaves for this peer: the hash of all leaves with it, in the same send. */
  sendHash(peer: string): void {
    const { hash } = this.#core;
    if (hash === undefined) return;
    const wallMs = Math.max(0, Math.floor(this.#init.clock.now().wallMs));
    for (const payload of encodeStateMessage({ type: "hash", hash, wallMs })) this.#init.send(peer, payload);
  }

  /** Bytes of a linked peer. `false`: undecodable. */
  receive(peer: string, payload: Uint8Array): boolean {
    const message = decodeStateMessage(payload);
    if (message === undefined) return false;
    if (this.#linked.has(peer)) this.#take(peer, message);
    else this.#wait(peer, message);
    return true;
  }

  #take(peer: string, whole: StateMessage): void {
    for (const message of inParts(whole)) this.#runner.enter({ type: "message", peer, message });
  }

  /** Takes no more writes; resolves once what was learnt and written is on disk, and the disk is free. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#shared.close();
    await new Promise<void>((resolve) => this.#runner.whenIdle(resolve));
    this.#runner.stop();
    this.#watchers.clear();
    this.#shared.stop();
    await this.#init.store.close();
  }

  // ── for the application ────────────────────────────────────────────────────────────────────────

  set(key: string, value: StateValue): void {
    assertKey(key);
    assertNotReserved(key);
    this.setReserved(key, value);
  }

  delete(key: string): boolean {
    assertKey(key);
    assertNotReserved(key);
    return this.#write(key, undefined);
  }

  /** {@link set} for keys of the mesh's own, which begin with `klatsch/`. */
  setReserved(key: string, value: StateValue): void {
    this.#write(key, encodeOrThrow(key, value));
  }

  get(peerId: string, key: string): StateValue | undefined {
    checkText("key", key);
    const bytes = this.#core.ownValue(peerId, key);
    return bytes === undefined ? undefined : decodeStateValue(bytes);
  }

  entries(filter: StateFilter = {}): readonly StateEntry[] {
    const wanted = checkedFilter(filter);
    const peers = wanted.peerId === undefined ? this.#core.owners() : [wanted.peerId];
    return peers.toSorted().flatMap((peerId) => {
      const own = this.#core.ownOf(peerId);
      if (own === undefined) return [];
      const meant = [...own.values].filter(([key]) => isMeant(wanted, peerId, key));
      return meant
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([key, bytes]) => ({ peerId, key, value: decodeStateValue(bytes), boot: own.boot }));
    });
  }

  watch(filter: StateFilter, listener: (change: StateChange) => void): () => void {
    return this.#watchers.add(filter, listener);
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
      case "sharedChanged":
        this.#shared.onChange(effect.entry);
        return;
      case "reply":
        this.#shared.onReply(effect.request, effect.outcome);
        return;
      case "raiseBoot":
        this.#init.raiseBoot(effect.above);
        return;
      case "refused":
        this.#refused(effect);
        return;
      case "persist":
      case "agreed":
        return; // Committed, not performed.
    }
  }

  #refused({ peer, reason, key }: Extract<StateEffect, { type: "refused" }>): void {
    this.#init.counters.stateRefused += 1;
    this.#init.logger.warn("state of a peer refused", { peerId: peer, reason, key });
    if (reason === "FORGED")
      this.#init.disconnect(peer, "a shared entry whose signature is not its writer's");
  }

  #tell({ peer, boot, key, value }: OwnChange): void {
    this.#watchers.tell(() => {
      return { peerId: peer, key, value: value === undefined ? undefined : decodeStateValue(value), boot };
    });
  }

  #fail(error: unknown): void {
    const cause = error instanceof Error ? error : new Error(String(error));
    this.#init.onFailed(
      new MeshError("STORE_FAILED", `gossip state has stopped: ${cause.message}`, { cause }),
    );
  }
}

/** Shared entries come by the hundred, and an input is done in one go: 3,000 signatures checked side by side took more than a second. */
function inParts(message: StateMessage): readonly StateMessage[] {
  if (message.type !== "shared" || message.entries.length <= PART_ENTRIES) return [message];
  const { entries } = message;
  return Array.from({ length: Math.ceil(entries.length / PART_ENTRIES) }, (_, no) => {
    return { ...message, entries: entries.slice(no * PART_ENTRIES, (no + 1) * PART_ENTRIES) };
  });
}

/** Nobody hears of an entry from us, its writer above all, before it is on our disk. */
function phaseOf(effect: StateEffect): "now" | "persist" | "after" {
  if (effect.type === "persist" || effect.type === "agreed") return "persist";
  return effect.type === "reply" || (effect.type === "send" && effect.message.type === "shared")
    ? "after"
    : "now";
}

function bytesOf(record: StateEffect): number {
  return RECORD_BYTES + (record.type === "persist" ? (record.entry?.value?.length ?? 0) : 0);
}

function portsOf({ self, mesh, privateKey, policy }: StateHostInit): SharedPorts {
  const signing = new Signing(privateKey);
  return {
    seal: (draft) => {
      const entry = { ...draft, valueHash: hashOfValue(draft.value), writer: self };
      return { ...entry, signature: signing.sign(signedBytes(mesh, entry)), credential: policy.credential() };
    },
    verify: (entry) => signing.verify(entry.writer, signedBytes(mesh, entry), entry.signature),
    mayWrite: (request) => policy.mayWrite(request),
  };
}

function isMeant(filter: StateFilter, peerId: string, key: string): boolean {
  return (filter.peerId === undefined || filter.peerId === peerId) && isKeyMeant(filter, key);
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
