import { createRunner, systemClock, systemRandom } from "@klatsch/kit";
import type { EffectRunner, Logger } from "@klatsch/kit";
import { keyText } from "@klatsch/kit/core";
import { quarantineStore, StoreError } from "@klatsch/kit/store";
import type { Store, StoreOperation } from "@klatsch/kit/store";
import type { Channel, Member, Mesh } from "@klatsch/mesh";

import { CodecError } from "../codec/fields.ts";
import { decodeFrame } from "../codec/frames.ts";
import { laneIdOf } from "../codec/hash.ts";
import { bodyOf, encodeRecord } from "../codec/records.ts";
import type { PeerStatus } from "../core/members.ts";
import type { Message } from "../core/messages.ts";
import type { CoreHooks } from "../core/hooks.ts";
import { QueueCore } from "../core/queue-core.ts";
import type { QueueEffect, QueueInput, SendEffect } from "../core/inputs.ts";
import { isRelaxed, keyOf } from "../core/records.ts";
import type { Persist } from "../core/records.ts";
import { Tail } from "../core/tail.ts";
import { Attention } from "./attention.ts";
import { Bulk } from "./bulk.ts";
import { openRecords } from "./open.ts";
import type { Bodies, BodyRef } from "./outbox.ts";
import { Outbox } from "./outbox.ts";

/** Both ends of a link open a channel of this name. */
const CHANNEL = "klatsch/queue/1";

/** About what a record takes on disk beside a body. */
const RECORD_BYTES = 300;
/** Inputs wait while the next batch has this many bytes: a store takes 32 MiB in one. */
const BATCH_BYTES = 8 * 1_024 * 1_024;

/**
 * A disk that has not finished one batch at so many looks, a second apart, is broken. Not by the clock: that goes on while
 * the process stands still.
 */
const DISK_LOOKS_MAX = 60;

/** What is left for the application's side: answers, deliveries and news. */
export type HostEffect = Exclude<QueueEffect, SendEffect | { readonly type: "persist" }>;

export interface EngineEvents {
  onEffect(effect: HostEffect): void;
  onQuarantined(path: string, reason: string): void;
  onBadFrame(peer: string, reason: string): void;
  /** A batch is on disk, or failed. */
  onSynced(tookMs: number): void;
  /** The node's queues have ended, because of `error`. */
  onFailed(error: Error): void;
}

export interface EngineInit {
  readonly mesh: Mesh;
  readonly dataDir: string;
  readonly logger: Logger;
  readonly hooks: CoreHooks;
  readonly healAfterMs?: number | undefined;
}

/** One node's queue core with its disk and its links. */
export class Engine {
  readonly core: QueueCore;
  readonly store: Store;
  readonly #mesh: Mesh;
  readonly #events: EngineEvents;
  readonly #directory: string;
  readonly #outbox: Outbox;
  readonly #runner: EffectRunner<QueueInput, QueueEffect>;
  readonly #tail: Tail;
  #channel: Channel | undefined;
  #bulk: Bulk | undefined;
  #unsubscribe: (() => void)[] = [];
  #attention: Attention | undefined;
  /** At the batch that is being written. */
  #looks: number | undefined;
  readonly #watch: NodeJS.Timeout;
  #ended = false;

  private constructor(
    opened: { directory: string; store: Store; loaded: QueueCore },
    mesh: Mesh,
    events: EngineEvents,
  ) {
    this.core = opened.loaded;
    this.store = opened.store;
    this.#directory = opened.directory;
    this.#mesh = mesh;
    this.#events = events;
    this.#tail = new Tail(opened.store.storeId, opened.store.batchNo, (no) => opened.store.proofOf(no));
    this.#outbox = new Outbox(
      { channel: () => this.#channel, bulk: () => this.#bulk },
      (refs) => this.#loadBodies(refs),
      (error) => void this.#fail(error),
    );
    this.#runner = createRunner<QueueInput, QueueEffect>({
      core: this.core,
      tick: { type: "tick" },
      phase: (effect) => (effect.type === "persist" ? "persist" : effect.type === "send" ? "after" : "now"),
      perform: (effect, batchNo) => this.#perform(effect, batchNo),
      commit: (records, done) => {
        const beganMs = performance.now();
        this.#looks = 0;
        const written = (error: StoreError | undefined, batchNo: number): void => {
          this.#looks = undefined;
          events.onSynced(performance.now() - beganMs);
          done(error, batchNo);
        };
        const batch = records.filter(isPersist);
        this.store.commitWith(batch.map(operationOf), written, isRelaxed(batch));
      },
      weight: weightOf,
      batchWeightMax: BATCH_BYTES,
      onFailed: (error) => void this.#fail(error),
    });
    this.#watch = setInterval(() => this.#look(), 1_000).unref();
  }

  /** Until a disk fails a write, nobody else takes over what waits for it: one that hangs has to be noticed. */
  #look(): void {
    if (this.#looks === undefined) return;
    this.#looks += 1;
    if (!this.#isHung) return;
    const text = `the disk has not finished a write for ${DISK_LOOKS_MAX} s`;
    void this.#fail(new StoreError("STORE_IO", text, { storeId: this.store.storeId }));
  }

  get #isHung(): boolean {
    return this.#looks !== undefined && this.#looks >= DISK_LOOKS_MAX;
  }

  /** Opens the store (a damaged one is put aside), then joins the mesh's links. */
  static async start(
    { mesh, dataDir, logger, hooks, healAfterMs }: EngineInit,
    events: EngineEvents,
  ): Promise<Engine> {
    const opened = await openRecords(
      dataDir,
      logger,
      (store, records, registers) =>
        new QueueCore({
          peer: mesh.peerId,
          store: store.storeId,
          boot: store.boot,
          random: systemRandom,
          now: systemClock.now(),
          tuning: healAfterMs === undefined ? {} : { heirDeadMs: healAfterMs },
          records,
          registers,
          laneIdOf,
          hooks,
        }),
    );
    const engine = new Engine(opened, mesh, events);
    if (opened.quarantined !== undefined) {
      events.onQuarantined(opened.quarantined.path, opened.quarantined.reason);
    }
    try {
      engine.#join();
    } catch (error) {
      await engine.#end(); // Or its directory stays locked.
      throw error;
    }
    return engine;
  }

  #join(): void {
    const mesh = this.#mesh;
    for (const member of mesh.members()) this.#onMember(member);
    const news = ["joined", "suspected", "refuted", "died", "stopped", "left"] as const;
    this.#unsubscribe = [
      ...news.map((name) => mesh.on(`member:${name}`, (member) => this.#onMember(member))),
      mesh.on("self:declaredDead", () => this.enter({ type: "declaredDead" })),
      mesh.on("mesh:failed", ({ error }) => void this.#fail(error)),
    ];
    this.#bulk = new Bulk(mesh, {
      onFrame: (peer, frame) => this.#onFrame(peer, frame),
      onLost: (peer, reason) => this.#channel?.reset(peer, reason),
    });
    const channel = mesh.channel(CHANNEL, {
      onUp: (peer) => {
        this.#outbox.up(peer);
        this.#bulk?.up(peer);
        this.enter({ type: "link", peer, up: true });
      },
      onDown: (peer) => {
        this.#outbox.down(peer);
        this.#bulk?.down(peer);
        this.enter({ type: "link", peer, up: false });
      },
      onFrame: (peer, frame) => {
        this.#onFrame(peer, frame);
        this.#bulk?.begin(peer);
      },
    });
    this.#channel = channel;
    this.#attention = new Attention({
      mesh,
      lanes: () => this.core.acceptor.lanes(),
      sessions: () => channel.peers(),
      onQueues: (peer, areThere) =>
        this.enter({ type: "peer", peer, status: areThere ? "alive" : "stopped" }),
    });
  }

  #onMember({ peerId, status, self }: Member): void {
    if (!self) this.enter({ type: "peer", peer: peerId, status: status satisfies PeerStatus });
  }

  #onFrame(from: string, frame: Uint8Array): void {
    let messages: readonly Message[];
    try {
      messages = decodeFrame(frame);
    } catch (error) {
      if (!(error instanceof CodecError)) throw error;
      this.#events.onBadFrame(from, error.message);
      this.#channel?.reset(from, `a queue frame is malformed: ${error.message}`);
      return;
    }
    for (const message of messages) {
      const missing = message.type === "hello" ? this.#tail.missing(message) : undefined;
      if (missing !== undefined) {
        void this.#loseTail(from, missing);
        return;
      }
      this.enter({ type: "message", from, message });
    }
  }

  /** A peer counted on batches that this disk no longer has: its tail is gone, and it must not vote. */
  async #loseTail(from: string, echo: number): Promise<void> {
    const { storeId, batchNo } = this.store;
    const text = `the store ends at batch ${batchNo}, but ${from} was answered by batch ${echo}`;
    if (this.#ended) return;
    await this.#end();
    // First: who ends the process because of the failure must not find the same store again.
    const path = await quarantineStore(this.#directory);
    this.#events.onQuarantined(path, text);
    this.#events.onFailed(new StoreError("STORE_DAMAGED", text, { storeId }));
  }

  /** Whether all have said hello that are known to have queues, and somebody has where there is anybody to be met. */
  get hasHeard(): boolean {
    const { members } = this.core;
    const heard = new Set(members.writers()); // This node is one of them.
    if (heard.size > 1) return this.#attention?.fellows().every((peer) => heard.has(peer)) === true;
    const isAlone =
      members.candidates("").others.length === 0 && this.#mesh.members().every(({ self }) => self);
    return isAlone && this.#mesh.stats().seeds === 0;
  }

  /** Whether so many stores can be reached; of a node that is to be joined by others, and joins nobody, it is not known how many come. */
  hasStores(count: number): boolean {
    return this.core.members.writers().length >= count || this.#mesh.stats().seeds === 0;
  }

  /** Hands the core one input; ignored once the engine has ended. */
  enter(input: QueueInput): void {
    this.#runner.enter(input);
  }

  #perform(effect: QueueEffect, batchNo: number): void {
    if (effect.type === "persist") return;
    if (!("message" in effect)) return this.#events.onEffect(effect);
    const { to, message } = effect;
    const whole = message.type === "ok" ? { ...message, batchNo, proof: this.#tail.prove(batchNo) } : message;
    if (to === this.core.peer) return this.#sendSelf(whole);
    this.#tail.told(whole);
    this.#outbox.push(to, whole);
  }

  /** To itself a node speaks like to any other: what arrives is whole. */
  #sendSelf(message: Message): void {
    const from = this.core.peer;
    const whole = this.#outbox.whole(message);
    if (!(whole instanceof Promise)) return this.enter({ type: "message", from, message: whole });
    whole.then(
      (read) => this.enter({ type: "message", from, message: read }),
      (error: unknown) => void this.#fail(error),
    );
  }

  /** Bodies of messages from this node's disk; of one that is finished there is none. */
  #loadBodies(refs: readonly BodyRef[]): Bodies | Promise<Bodies> {
    const bodies: (Uint8Array | undefined)[] = [];
    const places: number[] = [];
    const keys: string[] = [];
    for (const [at, { lane, seq }] of refs.entries()) {
      const slot = this.core.acceptor.bodySlot(lane, seq);
      const key = slot === undefined ? undefined : keyText(keyOf.message(slot, seq));
      const recent = key === undefined ? undefined : this.store.peek(key);
      bodies.push(recent && bodyOf(recent));
      if (key === undefined || recent !== undefined) continue;
      places.push(at);
      keys.push(key);
    }
    if (keys.length === 0) return bodies;
    return this.store.getMany(keys).then((stored) => {
      for (const [index, at] of places.entries()) bodies[at] = bodyOrNone(stored[index]);
      return bodies;
    });
  }

  async #fail(error: unknown): Promise<void> {
    if (this.#ended) return;
    await this.#end();
    this.#events.onFailed(error instanceof Error ? error : new Error(String(error)));
  }

  /** Leaves the links, finishes what is being written, and frees the directory. */
  async stop(): Promise<void> {
    if (this.#ended) return;
    await new Promise<void>((resolve) => this.#runner.whenIdle(resolve));
    await this.#end();
  }

  async #end(): Promise<void> {
    this.#ended = true;
    clearInterval(this.#watch);
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    this.#runner.stop();
    this.#attention?.stop();
    this.#bulk?.close();
    this.#channel?.close();
    const closed = this.store.close();
    if (!this.#isHung) return await closed;
    closed.catch(() => undefined); // It closes once its disk goes on, if ever, and has failed already.
  }
}

function isPersist(effect: QueueEffect): effect is Persist {
  return effect.type === "persist";
}

function bodyOrNone(stored: Uint8Array | undefined): Uint8Array | undefined {
  return stored && bodyOf(stored);
}

function weightOf(effect: QueueEffect): number {
  if (effect.type !== "persist" || effect.record === undefined) return RECORD_BYTES;
  return RECORD_BYTES + (effect.record.kind === "message" ? effect.record.body.length : 0);
}

function operationOf({ key, record, fresh }: Persist): StoreOperation {
  const encoded = record === undefined ? undefined : encodeRecord(record);
  if (record?.kind === "message") return { key, prefix: encoded, value: record.body, fresh };
  return { key, value: encoded, fresh };
}
