import { systemClock, textOf } from "@klatsch/kit";
import type { Instant, Logger } from "@klatsch/kit";
import { isWithinMeans } from "@klatsch/kit/core";
import type { Channel, Mesh } from "@klatsch/mesh";

import { Assembly } from "../codec/assembly.ts";
import { decodeFrame, decodeItem, encodeParts, wholeOf } from "../codec/frames.ts";
import type { Encoded } from "../codec/frames.ts";
import { TooMuchError } from "../codec/packr.ts";
import { CodecError } from "../codec/read.ts";
import type { CallClass } from "../contract.ts";
import { Calls } from "../core/calls.ts";
import type { CallEffect, CallInput } from "../core/calls.ts";
import { ITEM_BYTES_MAX, ITEM_PARTS_MAX, WAITING_MAX } from "../core/limits.ts";
import { fault } from "../core/messages.ts";
import type { AskMessage, CastMessage, EmitMessage, Fault, Message, Route } from "../core/messages.ts";
import { Serving } from "../core/serving.ts";
import type { ServeEffect, ServeInput, Verdict } from "../core/serving.ts";
import { Attention } from "./attention.ts";
import { Outbox } from "./outbox.ts";
import type { OutboxInit } from "./outbox.ts";
import { Reaching } from "./reaching.ts";
import { peerOf, routeOf } from "./route.ts";
import type { Stops } from "./stops.ts";

/** Both ends of a link open one channel of this name for each class. */
const CHANNEL = "klatsch/rpc/1";
const CLASSES: readonly CallClass[] = ["high", "normal", "bulk"];

export interface EngineEvents {
  onCallEffect(effect: Exclude<CallEffect, { readonly type: "send" | "reach" }>): void;
  /** `peer`: who asks. */
  onServeEffect(effect: Exclude<ServeEffect, { readonly type: "send" }>, peer: string): void;
  judge(peer: string, ask: AskMessage): Verdict;
  onCast(peer: string, message: CastMessage): void;
  onTopic(peer: string, message: Message & { readonly type: "emit" | "recall" }): void;
  /** A peer's session of class `normal` began. */
  onUp(peer: string): void;
  /** It ended. */
  onDown(peer: string): void;
  onBadFrame(peer: string, reason: string): void;
}

export interface EngineInit {
  readonly pendingMax: number;
  readonly servingMax: number;
  readonly stops: Stops;
  readonly logger: Logger;
}

interface Link {
  readonly peer: string;
  readonly class: CallClass;
  readonly route: Route;
  readonly outbox: Outbox;
  readonly assembly: Assembly;
}

/** One node's two cores with its links, its frames and its one timer. */
export class Engine {
  readonly #mesh: Mesh;
  readonly #events: EngineEvents;
  readonly #calls: Calls;
  readonly #serving: Serving;
  readonly #links = new Map<Route, Link>();
  readonly #channels = new Map<CallClass, Channel>();
  readonly #reaching: Reaching;
  readonly #attention: Attention;
  readonly #stops: Stops;
  #unsubscribe: (() => void)[] = [];
  /** Called once nothing is under way. */
  #onDrained: (() => void) | undefined;
  #timer: NodeJS.Timeout | undefined;
  #armedAt = Infinity;
  #ended = false;

  constructor(mesh: Mesh, { pendingMax, servingMax, stops, logger }: EngineInit, events: EngineEvents) {
    this.#mesh = mesh;
    this.#stops = stops;
    this.#events = events;
    this.#calls = new Calls({ pendingMax });
    this.#serving = new Serving({ runsMax: servingMax });
    this.#attention = new Attention(mesh);
    this.#reaching = new Reaching({
      mesh,
      logger,
      has: (route, sent) => this.#calls.has(route, sent),
      onUnreachable: (route, reason) => this.enterCall({ type: "unreachable", route, reason }),
    });
  }

  /** Opens the channels. Calls to this node itself take the same way, without a link. */
  start(): void {
    const ended = ["died", "stopped", "left"] as const;
    this.#unsubscribe = ended.map((name) =>
      this.#mesh.on(`member:${name}`, ({ peerId }) => this.#gone(peerId)),
    );
    this.#unsubscribe.push(this.#stops.watch((peer) => this.#gone(peer)));
    for (const trafficClass of CLASSES) {
      const loopBack = (frame: Uint8Array): boolean => {
        queueMicrotask(() => this.#received(this.#mesh.peerId, trafficClass, frame));
        return true;
      };
      this.#up(this.#mesh.peerId, trafficClass, { send: loopBack, keeps: true });
      const channel: Channel = this.#mesh.channel(
        `${CHANNEL}/${trafficClass}`,
        {
          onUp: (peer) =>
            this.#up(peer, trafficClass, { send: (frame) => channel.send(peer, frame), keeps: false }),
          onDown: (peer) => this.#down(routeOf(peer, trafficClass)),
          onFrame: (peer, frame) => this.#received(peer, trafficClass, frame),
        },
        { class: trafficClass },
      );
      this.#channels.set(trafficClass, channel);
    }
  }

  get pending(): number {
    return this.#calls.size;
  }

  /** Sessions with other nodes. */
  get links(): number {
    return this.#links.size - CLASSES.length;
  }

  get running(): number {
    return this.#serving.size;
  }

  now(): Instant {
    return systemClock.now();
  }

  /** A peer that was asked left the deadline pass. */
  missed(peer: string): void {
    if (!this.#ended) this.#attention.missed(peer);
  }

  /** Whether a session with the peer is up. */
  isUp(route: Route): boolean {
    return this.#links.has(route);
  }

  /** Peers with a session of class `normal`, this node not included. */
  peers(): readonly string[] {
    const links = [...this.#links.values()].filter((link) => link.class === "normal");
    return links.map(({ peer }) => peer).filter((peer) => peer !== this.#mesh.peerId);
  }

  /** Sessions of all classes with other nodes. */
  sessions(): readonly { readonly peer: string; readonly class: CallClass; readonly route: Route }[] {
    return [...this.#links.values()].filter(({ peer }) => peer !== this.#mesh.peerId);
  }

  /** Whether the peer is believed to be there and to take calls, linked or not. */
  isReachable(peer: string): boolean {
    const status = this.#mesh.member(peer)?.status;
    return (status === "alive" || status === "suspect") && !this.#stops.has(peer);
  }

  enterCall(input: CallInput): void {
    const now = systemClock.now();
    this.#performCalls(this.#calls.step(input, now));
    this.#arm(now);
    this.#settle();
  }

  enterServe(input: ServeInput): void {
    const now = systemClock.now();
    this.#performServe(this.#serving.step(input, now));
    this.#arm(now);
    this.#settle();
  }

  /** An item of a run's output stream for its caller: its bytes, 0 if nobody listens, or the reason if it cannot travel. */
  queueFromRun(run: number, value: unknown): number | Fault {
    const asker = this.#serving.askerOf(run);
    return asker === undefined
      ? 0
      : this.queue(asker.route, { type: "item", id: asker.id, up: false, value });
  }

  /** Resolves when there may be room for this item for a run's caller; `undefined` if there is now, or nobody listens. */
  roomFromRun(run: number, value: unknown): Promise<void> | undefined {
    const asker = this.#serving.askerOf(run);
    return asker === undefined
      ? undefined
      : this.room(asker.route, { type: "item", id: asker.id, up: false, value });
  }

  /** Resolves when there may be room for this on its route, or the session has ended; `undefined` if that is so now. */
  room(route: Route, message: Message): Promise<void> | undefined {
    const outbox = this.#crowded(route, message);
    return outbox && new Promise((resolve) => outbox.whenRoom(() => resolve()));
  }

  /** Where this has to wait. */
  #crowded(route: Route, message: Message): Outbox | undefined {
    const outbox = this.#links.get(route)?.outbox;
    if (outbox?.full !== true) return undefined;
    if (!outbox.takes(0)) return outbox;
    // How long it is tells only its encoding, which is dropped where it is too long: byte strings are not even copied.
    const item = encoded(message);
    return "code" in item || outbox.takes(item.bytes) ? undefined : outbox;
  }

  /**
   * A result as it is kept for its key, whatever its handler makes of it later, and its bytes. If it cannot travel, as many as an
   * item may have: it may be any size, and is kept all the same.
   */
  kept(value: unknown): { readonly value: unknown; readonly bytes: number } {
    const item = encoded({ type: "reply", id: 0, value });
    if ("code" in item) return { value, bytes: ITEM_BYTES_MAX };
    const copy = decodeItem(Uint8Array.from(wholeOf(item)));
    return { value: copy.type === "reply" ? copy.value : undefined, bytes: item.bytes };
  }

  /** Queues one message. The reason if it cannot travel; nothing was queued then. */
  send(route: Route, message: Message): Fault | undefined {
    const queued = this.queue(route, message);
    return typeof queued === "number" ? undefined : queued;
  }

  /** The same, with its bytes. */
  queue(route: Route, message: Message): number | Fault {
    const link = this.#links.get(route);
    if (link === undefined) return NO_LINK;
    if (isNew(message) && !link.outbox.takes(0)) return FULL;
    if (link.outbox.isFlooded) {
      this.#channels.get(link.class)?.reset(link.peer, "the peer takes nothing of what it asked for");
      return NO_LINK;
    }
    const item = encoded(message);
    if ("code" in item) return item;
    if (isNew(message) && !link.outbox.takes(item.bytes)) return FULL;
    link.outbox.push(orderKey(message), item, message.type === "ask" ? message.id : undefined);
    return item.bytes;
  }

  /** One for several peers, encoded once. */
  sendToAll(routes: readonly Route[], message: CastMessage | EmitMessage): readonly (Fault | undefined)[] {
    let item: Encoded | Fault | undefined;
    return routes.map((route) => {
      const link = this.#links.get(route);
      if (link === undefined) return NO_LINK;
      if (!link.outbox.takes(0)) return FULL;
      item ??= encoded(message);
      if ("code" in item) return item;
      if (!link.outbox.takes(item.bytes)) return FULL;
      link.outbox.push(orderKey(message), item, undefined);
      return undefined;
    });
  }

  #up(peer: string, trafficClass: CallClass, way: Pick<OutboxInit, "send" | "keeps">): void {
    const route = routeOf(peer, trafficClass);
    const onRefused = (): void =>
      this.#channels.get(trafficClass)?.reset(peer, "rpc frames exceed the link's limit");
    const outbox = new Outbox({ ...way, onRefused, onRest: () => this.#settle() });
    this.#links.set(route, { peer, class: trafficClass, route, outbox, assembly: new Assembly() });
    this.enterServe({ type: "up", route });
    this.enterCall({ type: "up", route, boot: this.#mesh.member(peer)?.boot ?? 0 });
    if (trafficClass === "normal") this.#events.onUp(peer);
  }

  #down(route: Route): void {
    const link = this.#links.get(route);
    if (link === undefined) return;
    this.#links.delete(route);
    const unsent = link.outbox.close();
    this.enterServe({ type: "down", route });
    this.enterCall({ type: "down", route, unsent });
    if (!this.isReachable(link.peer)) this.enterCall({ type: "gone", route });
    if (link.class === "normal") this.#events.onDown(link.peer);
  }

  #gone(peer: string): void {
    for (const trafficClass of CLASSES) this.enterCall({ type: "gone", route: routeOf(peer, trafficClass) });
  }

  #received(peer: string, trafficClass: CallClass, frame: Uint8Array): void {
    const link = this.#links.get(routeOf(peer, trafficClass));
    if (link === undefined) return;
    const now = systemClock.now();
    try {
      const messages = decodeFrame(frame);
      link.outbox.took(frame.length);
      for (const message of messages) this.#dispatch(link, message, now);
    } catch (error) {
      if (!(error instanceof CodecError)) throw error;
      this.cut(link.route, error.message);
    }
    this.#arm(now);
    this.#settle();
  }

  /** Ends a peer's session over what it sent. */
  cut(route: Route, reason: string): void {
    const link = this.#links.get(route);
    if (link === undefined) return;
    this.#events.onBadFrame(link.peer, reason);
    this.#channels.get(link.class)?.reset(link.peer, `an rpc frame is malformed: ${reason}`);
  }

  #dispatch(link: Link, message: Message, now: Instant): void {
    const from = link.route;
    switch (message.type) {
      case "ask": {
        const isOver = link.outbox.waiting >= WAITING_MAX;
        const verdict: Verdict = isOver ? { ok: false, fault: FULL } : this.#events.judge(link.peer, message);
        this.#performServe(
          this.#serving.step({ type: "ask", from, owner: link.peer, ask: message, verdict }, now),
        );
        return;
      }
      case "reply":
      case "fail":
        this.#performCalls(this.#calls.step({ type: "message", from, message }, now));
        return;
      case "cancel":
      case "end":
        this.#performServe(this.#serving.step({ type: "message", from, message }, now));
        return;
      case "item":
        if (message.up) this.#performServe(this.#serving.step({ type: "message", from, message }, now));
        else this.#performCalls(this.#calls.step({ type: "message", from, message }, now));
        return;
      case "credit": // Credit for items that go up is for their writer, the caller.
        if (message.up) this.#performCalls(this.#calls.step({ type: "message", from, message }, now));
        else this.#performServe(this.#serving.step({ type: "message", from, message }, now));
        return;
      case "cast":
        this.#events.onCast(link.peer, message);
        return;
      case "chunk": {
        const whole = link.assembly.add(message);
        if (whole !== undefined) this.#dispatch(link, whole, now);
        return;
      }
      case "took":
        link.outbox.confirmed(message.bytes);
        return;
      case "emit":
      case "recall":
        this.#events.onTopic(link.peer, message);
    }
  }

  #performCalls(effects: readonly CallEffect[]): void {
    for (const effect of effects) {
      if (effect.type === "reach") {
        this.#reaching.reach(effect.route);
        continue;
      }
      if (effect.type !== "send") {
        this.#events.onCallEffect(effect);
        continue;
      }
      const reason = this.send(effect.route, effect.message);
      if (reason === undefined || effect.message.type !== "ask") continue;
      // As if the peer had refused it: nothing left.
      this.enterCall({
        type: "message",
        from: effect.route,
        message: { type: "fail", id: effect.message.id, fault: reason },
      });
    }
  }

  #performServe(effects: readonly ServeEffect[]): void {
    for (const effect of effects) {
      if (effect.type !== "send") {
        this.#events.onServeEffect(effect, effect.type === "run" ? peerOf(effect.from) : "");
        continue;
      }
      if (effect.message.type === "reply") this.#reply(effect.route, effect.message);
      else this.send(effect.route, effect.message);
    }
  }

  /** An answer that finds no room is not kept encoded until there is. */
  #reply(route: Route, reply: Message & { readonly type: "reply" }): void {
    const outbox = this.#crowded(route, reply);
    if (outbox !== undefined) {
      return outbox.whenRoom((open) => {
        if (open) this.#reply(route, reply);
      });
    }
    const reason = this.send(route, reply);
    if (reason === undefined) return;
    const { code, message } = reason;
    const output = fault(code === "INVALID_INPUT" ? "INVALID_OUTPUT" : code, message, "unknown");
    this.send(route, { type: "fail", id: reply.id, fault: output });
  }

  /** One timer for all deadlines. It is only ever moved forward: one that fires early just looks again. */
  #arm(now: Instant): void {
    const next = Math.min(this.#calls.nextDeadline() ?? Infinity, this.#serving.nextDeadline() ?? Infinity);
    if (next >= this.#armedAt || this.#ended) return;
    clearTimeout(this.#timer);
    this.#armedAt = next;
    const delayMs = Math.max(0, Math.ceil(next - now.monoMs));
    this.#timer = setTimeout(this.#tick, Math.min(delayMs, 2 ** 31 - 1));
  }

  readonly #tick = (): void => {
    this.#armedAt = Infinity;
    this.enterCall({ type: "tick" });
    this.enterServe({ type: "tick" });
  };

  /** From now on others' calls are refused. Resolves once what is under way has ended, and its answers have left. */
  drain(): Promise<void> {
    const drained = new Promise<void>((resolve) => (this.#onDrained = resolve));
    this.enterCall({ type: "drain" });
    this.enterServe({ type: "drain", self: this.#mesh.peerId });
    return drained;
  }

  #settle(): void {
    if (this.#onDrained === undefined || this.running > 0 || this.#calls.awaited > 0) return;
    for (const { outbox } of this.#links.values()) if (!outbox.isAtRest) return;
    this.#onDrained();
    this.#onDrained = undefined;
  }

  /** Everything pending is rejected, everything running is told to stop; peers hear of both. */
  stop(): void {
    if (this.#ended) return;
    this.enterServe({ type: "stop" });
    this.enterCall({ type: "stop" });
    this.#ended = true;
    this.#reaching.stop();
    this.#attention.stop();
    clearTimeout(this.#timer);
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    // What tells them is flushed before the channels go.
    process.nextTick(() => {
      for (const channel of this.#channels.values()) channel.close();
    });
  }
}

const NO_LINK: Fault = fault("UNAVAILABLE", "the peer has no link");
const TOO_MANY_PARTS: Fault = fault(
  "TOO_LARGE",
  `more than ${ITEM_PARTS_MAX} lists, objects and fields: use a stream`,
);
const FULL: Fault = fault("OVERLOADED", "too many bytes wait for this peer already");

/** What may as well be refused: nobody waits for the rest of it yet. */
function isNew({ type }: Message): boolean {
  return type === "ask" || type === "cast" || type === "emit";
}

/** The packed message, or why it cannot travel. */
function encoded(message: Message): Encoded | Fault {
  let item: Encoded;
  try {
    item = encodeParts(message);
  } catch (error) {
    if (error instanceof TooMuchError) return TOO_MANY_PARTS;
    return fault("INVALID_INPUT", `the value cannot be encoded: ${textOf(error)}`);
  }
  if (item.bytes > ITEM_BYTES_MAX)
    return fault("TOO_LARGE", `${item.bytes} bytes exceed the limit of ${ITEM_BYTES_MAX}: use a stream`);
  if (item.body !== undefined || isWithinMeans(item.head, ITEM_PARTS_MAX)) return item;
  // What the peer would refuse would cost the session, and all others' calls.
  return isWithinMeans(item.head, Infinity)
    ? TOO_MANY_PARTS
    : fault("INVALID_INPUT", "the value has an extension of MessagePack that the peer would not read");
}

/** Messages of one call, of either side, keep their order. */
function orderKey(message: Message): number {
  switch (message.type) {
    case "ask":
    case "cancel":
    case "end":
      return message.id * 2;
    case "item":
      return message.id * 2 + (message.up ? 0 : 1);
    case "reply":
    case "fail":
      return message.id * 2 + 1;
    case "credit": // Goes against the items it is for.
      return message.id * 2 + (message.up ? 1 : 0);
    case "emit":
      return -2; // Of all topics: a number missing in between would be a loss.
    case "cast":
      return -3;
    case "chunk":
    case "took":
    case "recall":
      return -1;
  }
}
