import type { Instant } from "@klatsch/kit/core";

import type { Pid } from "./ballot.ts";
import { pidBoot, pidStore } from "./ballot.ts";
import { DEFINITIONS_MAX } from "./definitions.ts";
import type { Echo, Echoes, Message, Told } from "./messages.ts";
import type { Candidate } from "./placement.ts";
import type { StoredRecord } from "./records.ts";
import { keyOf } from "./records.ts";
import type { Timers } from "./timers.ts";
import type { PeerId, QueueId, Replica, StoreId } from "./types.ts";

/** What the mesh says of a peer. `stopped` and `dead` are gone for now, `left` for good. */
export type PeerStatus = "alive" | "suspect" | "dead" | "stopped" | "left";

/** Peers and stores one node knows at most. */
const MEMBERS_MAX = 4_096;
/** Echoes in a hello, of the newest stores that its receiver had: one or two each. */
const ECHOES_MAX = 32;
/** How long after its start a node waits for members it knows from disk before it counts them as gone. */
const UNSEEN_MS = 10_000;
/**
 * An echo goes to disk with the next batch, or after this long by itself, in milliseconds: a sync of its own for each answer
 * was more than half of all syncs of a node that enqueues now and then.
 */
const ECHO_SAVE_MS = 100;
const NO_ECHO: Echo = { batchNo: 0, proof: 0 };
/** C keeps a node for this long after its last consumer, in milliseconds. */
const CONSUMES_MS = 30_000;

interface Peer {
  status: PeerStatus | undefined;
  /** Since when it is so, and since when frames may be exchanged; monotonic. */
  statusMs: number;
  greetedMs: number;
  up: boolean;
  /** Its hello came on the present link: frames may be exchanged. */
  greeted: boolean;
  /** When its link went down last, monotonic; before the first, when this process began. */
  downMs: number;
  store: StoreId | undefined;
  readonly consumes: Map<QueueId, number>;
}

interface Store {
  readonly peer: PeerId;
  readonly boot: number;
  readonly retired: boolean;
}

interface MembersHost {
  readonly peer: PeerId;
  readonly store: StoreId;
  readonly boot: number;
  readonly now: Instant;
  readonly tuning: { readonly heirDeadMs: number; readonly heirSteadyMs: number };
  readonly timers: Timers;
  persist(key: string, record: StoredRecord | undefined): void;
  fault(what: string, peer: PeerId): void;
}

/** Who else there is: peers, their stores and boots, and what they consume. */
export class Members {
  readonly #host: MembersHost;
  readonly #peers = new Map<PeerId, Peer>();
  readonly #stores = new Map<StoreId, Store>();
  /** Stores that said hello since this process began: what they counted on of this one was there. */
  readonly #met = new Set<StoreId>();
  readonly #echoes = new Map<StoreId, Told>();
  /** Those that no batch holds yet. */
  readonly #unsavedEchoes = new Set<StoreId>();
  #isSavingEchoes = false;
  readonly #startMs: number;

  constructor(host: MembersHost) {
    this.#host = host;
    this.#startMs = host.now.monoMs;
    const self = this.#peer(host.peer);
    self.status = "alive";
    self.up = true;
    self.greeted = true;
    self.store = host.store;
    self.greetedMs = Number.NEGATIVE_INFINITY;
  }

  load(records: Iterable<readonly [key: string, record: StoredRecord]>): void {
    for (const [key, record] of records) {
      const id = key.slice(2);
      if (record.kind === "member") this.#stores.set(id, record);
      else if (record.kind === "echo") this.#echoes.set(id, record);
    }
    this.#announce(this.#host.store, this.#host.peer, this.#host.boot);
  }

  #peer(id: PeerId): Peer {
    let peer = this.#peers.get(id);
    if (peer === undefined) {
      const away = { status: undefined, up: false, greeted: false, downMs: this.#startMs };
      const since = { statusMs: this.#startMs, greetedMs: 0 };
      peer = { ...away, ...since, store: undefined, consumes: new Map() };
      this.#peers.set(id, peer);
    }
    return peer;
  }

  #announce(store: StoreId, peer: PeerId, boot: number): void {
    const known = this.#stores.get(store);
    if (known?.boot === boot && known.peer === peer) return;
    const record = { peer, boot, retired: known?.retired ?? false };
    this.#stores.set(store, record);
    this.#host.persist(keyOf.member(store), { kind: "member", ...record });
  }

  /** Stores of the peer, other than the one it has now, are gone for good. */
  #retire(id: PeerId, present: StoreId | undefined): void {
    for (const [store, known] of this.#stores) {
      if (known.peer !== id || known.retired || store === present) continue;
      this.#stores.set(store, { ...known, retired: true });
      this.#host.persist(keyOf.member(store), { kind: "member", ...known, retired: true });
    }
  }

  // Peers.

  /** `true` if the view changed. */
  setStatus(id: PeerId, status: PeerStatus): boolean {
    if (id === this.#host.peer || (!this.#peers.has(id) && this.#peers.size >= MEMBERS_MAX)) return false;
    const peer = this.#peer(id);
    if (peer.status === status) return false;
    peer.status = status;
    peer.statusMs = this.#host.now.monoMs;
    if (status === "left") this.#retire(id, undefined);
    return true;
  }

  linkUp(id: PeerId): boolean {
    if (!this.#peers.has(id) && this.#peers.size >= MEMBERS_MAX) return false;
    const peer = this.#peer(id);
    peer.up = true;
    peer.greeted = false;
    return true;
  }

  /** The store that could be reached over the link that went down. */
  linkDown(id: PeerId): StoreId | undefined {
    const peer = this.#peers.get(id);
    if (peer?.up !== true) return undefined;
    peer.up = false;
    peer.greeted = false;
    peer.downMs = this.#host.now.monoMs;
    return peer.store;
  }

  /** `false`: the hello cannot be believed, and the peer stays unreachable. */
  greet(id: PeerId, hello: Message & { type: "hello" }): boolean {
    const peer = this.#peers.get(id);
    if (peer?.up !== true || id === this.#host.peer) return false;
    if (hello.store !== undefined) {
      const known = this.#stores.get(hello.store);
      if (hello.store === this.#host.store || (known !== undefined && known.peer !== id)) {
        this.#host.fault(`store ${hello.store} belongs to another peer: was its directory copied?`, id);
        return false;
      }
      if (known === undefined && this.#stores.size >= MEMBERS_MAX) return false;
      if (known !== undefined && hello.boot < known.boot) {
        this.#host.fault(`store ${hello.store} went back in boots`, id);
        return false;
      }
      this.#announce(hello.store, id, hello.boot);
      this.#retire(id, hello.store);
      this.#met.add(hello.store);
    }
    peer.store = hello.store;
    peer.greeted = true;
    peer.greetedMs = this.#host.now.monoMs;
    if (peer.status === undefined || isOut(peer.status)) {
      peer.status = "alive";
      peer.statusMs = this.#host.now.monoMs;
    }
    this.setConsumes(id, hello.consumes);
    return true;
  }

  /** Peers with a store that cannot be asked, and were not for long: what they hold may be missed. */
  unheard(): readonly PeerId[] {
    const unheard = new Set<PeerId>();
    for (const { peer: id, retired } of this.#stores.values()) {
      const peer = this.#peers.get(id);
      const sinceMs = this.#host.now.monoMs - (peer?.downMs ?? this.#startMs);
      if (retired || peer?.greeted === true || sinceMs >= UNSEEN_MS) continue;
      if (peer?.status === undefined || !isOut(peer.status)) unheard.add(id);
    }
    return [...unheard];
  }

  isGreeted(id: PeerId): boolean {
    return this.#peers.get(id)?.greeted === true;
  }

  /** Other peers whose link is up: this node's hello is on its way, whatever follows it is understood. */
  linked(): readonly PeerId[] {
    return [...this.#peers].filter(([id, { up }]) => up && id !== this.#host.peer).map(([id]) => id);
  }

  /** Peers that frames reach, this node included. */
  greeted(): readonly PeerId[] {
    return [...this.#peers].filter(([, peer]) => peer.greeted).map(([id]) => id);
  }

  /** Peers with a store that frames reach, this node included. */
  writers(): readonly PeerId[] {
    return this.greeted().filter((id) => this.#peers.get(id)?.store !== undefined);
  }

  isOut(id: PeerId): boolean {
    const { status } = this.#peers.get(id) ?? {};
    return status !== undefined && isOut(status);
  }

  // Stores.

  peerOf(store: StoreId): PeerId | undefined {
    return this.#stores.get(store)?.peer;
  }

  storeOf(id: PeerId): StoreId | undefined {
    return this.#peers.get(id)?.store;
  }

  isReachable(store: StoreId): boolean {
    const known = this.#stores.get(store);
    if (known === undefined) return false;
    const peer = this.#peers.get(known.peer);
    return peer?.greeted === true && peer.store === store;
  }

  /** Flow 6: dead, left, restarted, or on another disk; or known from disk only and never seen since. */
  isGone(pid: Pid): boolean {
    const store = pidStore(pid);
    const known = this.#stores.get(store);
    if (known !== undefined && known.boot > pidBoot(pid)) return true;
    if (store === this.#host.store) return pidBoot(pid) < this.#host.boot;
    const peer = known === undefined ? undefined : this.#peers.get(known.peer);
    if (peer?.status === undefined) return this.#host.now.monoMs - this.#startMs >= UNSEEN_MS;
    return isOut(peer.status) || (peer.greeted && peer.store !== undefined && peer.store !== store);
  }

  /** Flow 10: it does not come back, or was dead for so long that its copies are made elsewhere. */
  isLost({ peer: id, store }: Replica): boolean {
    if (this.#stores.get(store)?.retired === true) return true;
    const peer = this.#peers.get(id);
    // A store this node never met cannot be retired in its records: its peer left, or came with another one.
    if (peer?.status === "left") return true;
    if (peer?.greeted === true && peer.store !== undefined && peer.store !== store) return true;
    const sinceMs = peer?.statusMs ?? this.#startMs;
    const dead = (peer?.status === undefined || peer.status === "dead") && !this.isReachable(store);
    return dead && this.#host.now.monoMs - sinceMs >= this.#host.tuning.heirDeadMs;
  }

  /** Whether any store may still come and say that this one lost its end. */
  hasMetAll(): boolean {
    for (const [store, { peer }] of this.#stores) {
      if (store !== this.#host.store && !this.#met.has(store) && !this.isLost({ peer, store })) return false;
    }
    return true;
  }

  /** Stores that a lane could be on, whether or not they can be reached. */
  storeCount(): number {
    let count = 0;
    for (const { retired } of this.#stores.values()) if (!retired) count += 1;
    return count;
  }

  candidates(queue: QueueId): { self: Candidate; others: readonly Candidate[] } {
    const others: Candidate[] = [];
    for (const [store, { peer, retired }] of this.#stores) {
      if (retired || store === this.#host.store) continue;
      others.push(this.#candidate(store, peer, queue));
    }
    return { self: this.#candidate(this.#host.store, this.#host.peer, queue), others };
  }

  #candidate(store: StoreId, id: PeerId, queue: QueueId): Candidate {
    const peer = this.#peers.get(id);
    const replaced = peer?.greeted === true && peer.store !== store;
    const gone = peer?.status === undefined || isOut(peer.status) || replaced;
    const status = gone ? "dead" : peer.status === "suspect" ? "suspect" : "alive";
    const consumes = !gone && (peer.consumes.get(queue) ?? 0) > this.#host.now.monoMs;
    const reachable = this.isReachable(store);
    const onlineMs = reachable ? this.#host.now.monoMs - (peer?.greetedMs ?? 0) : 0;
    return {
      peer: id,
      store,
      status,
      reachable,
      consumes,
      steady: onlineMs >= this.#host.tuning.heirSteadyMs,
    };
  }

  /** What was counted on of the stores a peer had, so that a lost tail shows; which it has now, only its hello tells. */
  echoesOf(id: PeerId): Echoes {
    const echoes: (readonly [StoreId, number, number])[] = [];
    for (const [store, { peer }] of this.#stores) {
      const told = this.#echoes.get(store);
      if (peer !== id || told === undefined) continue;
      for (const { batchNo, proof } of [told.said, told.heard])
        if (batchNo > 0) echoes.push([store, batchNo, proof]);
    }
    return echoes.slice(-ECHOES_MAX);
  }

  /** What the store says itself, or what others `heard`: they may have made it up, so neither takes the other's place. */
  raiseEcho(store: StoreId, echo: Echo, heard: boolean): void {
    const known = this.#echoes.get(store) ?? { said: NO_ECHO, heard: NO_ECHO };
    const before = heard ? known.heard : known.said;
    const isNew =
      echo.batchNo > before.batchNo || (echo.batchNo === before.batchNo && echo.proof !== before.proof);
    const isLess = heard && echo.batchNo <= known.said.batchNo;
    if (!isNew || isLess || !this.#stores.has(store) || store === this.#host.store) return;
    const said = heard ? known.said : echo;
    const others = heard ? echo : known.heard;
    this.#echoes.set(store, { said, heard: others.batchNo > said.batchNo ? others : NO_ECHO });
    this.#unsavedEchoes.add(store);
    if (this.#isSavingEchoes) return;
    this.#isSavingEchoes = true;
    this.#host.timers.set(this.#host.now.monoMs + ECHO_SAVE_MS, () => {
      this.#isSavingEchoes = false;
      this.saveEchoes();
    });
  }

  /** Adds what is new to the batch that is being made. */
  saveEchoes(): void {
    if (this.#unsavedEchoes.size === 0) return;
    const stores = [...this.#unsavedEchoes];
    this.#unsavedEchoes.clear(); // First: what is persisted asks for them again.
    for (const store of stores) {
      const told = this.#echoes.get(store);
      if (told !== undefined) this.#host.persist(keyOf.echo(store), { kind: "echo", ...told });
    }
  }

  // Rosters.

  setConsumes(id: PeerId, queues: readonly QueueId[]): void {
    const { consumes } = this.#peer(id);
    const named = new Set(queues);
    const untilMs = this.#host.now.monoMs + CONSUMES_MS;
    for (const [queue, until] of consumes) {
      if (until <= this.#host.now.monoMs) consumes.delete(queue);
      else if (!named.has(queue)) consumes.set(queue, Math.min(until, untilMs));
    }
    if (consumes.size > DEFINITIONS_MAX) consumes.clear();
    for (const queue of named) consumes.set(queue, Number.POSITIVE_INFINITY);
  }

  /** Greeted peers that host consumers of the queue now. */
  consumersOf(queue: QueueId): readonly PeerId[] {
    const found: PeerId[] = [];
    for (const [id, { greeted, consumes }] of this.#peers) {
      if (greeted && consumes.get(queue) === Number.POSITIVE_INFINITY) found.push(id);
    }
    return found;
  }
}

function isOut(status: PeerStatus): boolean {
  return status === "dead" || status === "stopped" || status === "left";
}
