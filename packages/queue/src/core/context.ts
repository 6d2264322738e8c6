import type { Instant, Random } from "@klatsch/kit/core";

import type { Pid } from "./ballot.ts";
import type { CoreHooks } from "./hooks.ts";
import type { Message } from "./messages.ts";
import type { RecordKey, StoredRecord } from "./records.ts";
import type { Timers } from "./timers.ts";
import type { Descriptor, LaneId, PeerId, QueueId, StoreId } from "./types.ts";

/** Timers and limits of the protocol; durations in milliseconds. PROTOCOL.md gives the reasons. */
export interface Tuning {
  /** δ of flow 6: replica of rank r waits r·δ before it steals. */
  readonly stealDelayMs: number;
  readonly prepareRetryMs: number;
  readonly prepareRetryMaxMs: number;
  /** How long a lane writer may be silent in a lane with unfinished messages; doubles per steal. */
  readonly silentMs: number;
  readonly silentMaxMs: number;
  readonly askTimeoutMs: number;
  readonly learnDelayMs: number;
  readonly learnSeqs: number;
  readonly snapshotMs: number;
  readonly verdictRetryMs: number;
  readonly verdictRetryMaxMs: number;
  /** Least grace after a lease; a quarter of the lease if that is more. */
  readonly graceMinMs: number;
  /** How often a replica whose clock is behind is asked again. */
  readonly earlyRetryMs: number;
  /** How far short of a time a replica's clock may be and still believe it has come (A7). */
  readonly clockSlackMs: number;
  readonly resolveMs: number;
  readonly floorGossipMs: number;
  readonly sealHysteresisMs: number;
  /** Flow 10: how long a store must be dead, or a candidate for a weak lane reachable; and how often that is looked at. */
  readonly heirDeadMs: number;
  readonly heirSteadyMs: number;
  readonly heirLookMs: number;
  /** Lanes of one node that get their heirs at a time. */
  readonly heirsMax: number;
  /** A lane that holds the floor back for so long, with more closed lanes above it than so many, gets an heir. */
  readonly heldFloorMs: number;
  readonly heldFloorLanes: number;
  readonly offerMs: number;
  readonly creditIdleMs: number;
  readonly laneMessages: number;
  readonly windowOps: number;
  readonly windowBytes: number;
  /** It is never less than this, however slow the replica. */
  readonly windowBytesMin: number;
  /** Frames that take longer than this to be answered wait for each other: fewer of them leave at a time. */
  readonly answerMs: number;
  readonly frameBytes: number;
  /** A longer body has a frame of its own, which may arrive after what was sent later. */
  readonly bulkBytes: number;
  readonly pageRegisters: number;
  /** Records of a deleted queue that go in one batch, or a few more. */
  readonly dropRecords: number;
  /** Keys of finished messages that an heir proposes at a time: half a KiB each until they are chosen. */
  readonly importKeys: number;
  /** Registers a lane keeps as objects before it packs those of waiting messages. */
  readonly looseRegisters: number;
  /** Two to this power are the seqs of which packed registers lie together: the same on every node. */
  readonly packedBits: number;
  /** Enqueues of this node that wait for a quorum. */
  readonly pendingEnqueues: number;
  readonly pendingBytes: number;
  /** Bodies of this node's waiting messages in memory. */
  readonly readyBytes: number;
  /** How long an enqueue is known again in an ordered lane; its entry node asks again for half of it. */
  readonly tokenKeepMs: number;
  /** Seqs of an ordered lane appended and not on q replicas yet: its next writer begins so far above what it found. */
  readonly appendWindow: number;
}

/** The protocol's defaults. */
export const DEFAULT_TUNING: Tuning = {
  stealDelayMs: 250,
  prepareRetryMs: 250,
  prepareRetryMaxMs: 10_000,
  silentMs: 10_000,
  silentMaxMs: 120_000,
  askTimeoutMs: 1_000,
  learnDelayMs: 20,
  learnSeqs: 256,
  snapshotMs: 30_000,
  verdictRetryMs: 100,
  verdictRetryMaxMs: 2_000,
  graceMinMs: 2_000,
  earlyRetryMs: 1_000,
  clockSlackMs: 5_000,
  resolveMs: 600_000,
  floorGossipMs: 10_000,
  sealHysteresisMs: 30_000,
  heirDeadMs: 600_000,
  heirSteadyMs: 60_000,
  heirLookMs: 1_000,
  heirsMax: 4,
  heldFloorMs: 3_600_000,
  heldFloorLanes: 256,
  offerMs: 100,
  creditIdleMs: 1_000,
  laneMessages: 65_536,
  windowOps: 4_096,
  windowBytes: 8 * 1_024 * 1_024,
  windowBytesMin: 128 * 1_024,
  answerMs: 1_000,
  frameBytes: 56 * 1_024,
  bulkBytes: 64 * 1_024,
  pageRegisters: 1_024,
  dropRecords: 1_024,
  importKeys: 2_048,
  looseRegisters: 256,
  packedBits: 9,
  pendingEnqueues: 65_536,
  pendingBytes: 64 * 1_024 * 1_024,
  readyBytes: 8 * 1_024 * 1_024,
  tokenKeepMs: 30_000,
  appendWindow: 1_024,
};

/** What a body takes in memory beside its bytes. */
const BODY_OVERHEAD_BYTES = 200;

/** Bodies of messages that wait for a consumer, kept in memory up to a limit. */
export class BodyBudget {
  readonly #bytesMax: number;
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** `false`: the limit is reached, and the body is read back from disk when it is wanted. */
  take(body: Uint8Array): boolean {
    const bytes = this.#bytes + body.length + BODY_OVERHEAD_BYTES;
    if (bytes > this.#bytesMax) return false;
    this.#bytes = bytes;
    return true;
  }

  give(body: Uint8Array): void {
    this.#bytes -= body.length + BODY_OVERHEAD_BYTES;
  }
}

/** A pause between two inputs counts as awake up to this fraction of `tokenKeepMs`. */
export const AWAKE_FRACTION: number = 1 / 16;

/** What the parts of one node's queue core share. */
export interface Context {
  readonly peer: PeerId;
  readonly store: StoreId;
  readonly boot: number;
  /** This node's proposer id for this boot. */
  readonly pid: Pid;
  readonly random: Random;
  readonly tuning: Tuning;
  readonly timers: Timers;
  readonly bodies: BodyBudget;
  readonly hooks: CoreHooks;
  /** The instant of the input being handled. */
  readonly now: Instant;
  /** Milliseconds without those that this process slept: what was sent to it meanwhile is still to come. */
  readonly awakeMs: number;
  /** SHA-256 over the encoded descriptor. */
  laneIdOf(descriptor: Descriptor): LaneId;
  /** `fresh`: nothing was ever written under this key. `relaxed`: nobody waits for its sync. Both `false` by default. */
  persist(key: RecordKey, record: StoredRecord | undefined, fresh?: boolean, relaxed?: boolean): void;
  /** Leaves at once: `message` reveals nothing unpersisted. */
  send(to: PeerId, message: Message): void;
  /** Leaves after all that was persisted so far is on disk. */
  sendAfter(to: PeerId, message: Message): void;
  /** Whether frames reach this peer's store now (always for this node itself). */
  reachable(store: StoreId): boolean;
  /** Flow 6: whether this node knows that the process behind `pid` will not act again. */
  isGone(pid: Pid): boolean;
  /** Nothing of such a queue is kept. */
  isDeleted(queue: QueueId): boolean;
  /** A peer or this node itself broke the protocol's rules: counted and reported, nothing else. */
  fault(what: string, peer: PeerId): void;
}
