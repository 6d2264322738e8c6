import type { Acceptor } from "./acceptor.ts";
import { pidBoot, pidStore } from "./ballot.ts";
import type { Context } from "./context.ts";
import type { EnqueueResult, PendingEnqueue } from "./lane-register.ts";
import type { Members } from "./members.ts";
import type { EnteredItem, EnterItem, Message } from "./messages.ts";
import { shardDescriptors, shardOf } from "./ordered.ts";
import { enqueued, PLAIN } from "./register.ts";
import type { Timer } from "./timers.ts";
import type { Definition, Descriptor, LaneId, PeerId, QueueId, Replica, Value } from "./types.ts";

/** How often a hint is followed at once; after that, at its next turn. */
const REDIRECTS_MAX = 3;
/** Looks for another writer are at most so many `askTimeoutMs` apart. */
const LOOKS_APART_MAX = 8;
/** Items of which the shortest is taken along. */
const LOOKED_THROUGH_MAX = 32;
/** About what an item of an `enter` takes beside its body. */
const ITEM_BYTES = 200;

interface Item<P> {
  readonly pending: P;
  readonly token: string;
  readonly group: string | undefined;
  readonly value: Value;
  /** Monotonic instant at which it left first. */
  sentMs: number | undefined;
  /** Times it was sent and nobody said that it is not there. */
  open: number;
  /** Who is to answer, over the link that is up: there it is on its way, however slowly, and need not be said again. */
  at: PeerId | undefined;
  seq: number | undefined;
}

/** What waits behind the message of its group that is under way. */
interface Behind<P> {
  readonly items: Set<Item<P>>;
  /** Its turns: one iterator for all, since each new one passes again where the others were. */
  readonly turns: Iterator<Item<P>, undefined>;
}

/** What this node wants to enter one lane. */
interface Side<P> {
  /** The one its queue's definition names: what message ids have in them. */
  readonly lane: LaneId;
  readonly descriptor: Descriptor;
  /** The one that has its messages now, as far as this node heard. */
  newest: Descriptor;
  /** Not answered yet; those of one group after another. */
  readonly items: Map<string, Item<P>>;
  due: Set<Item<P>>;
  /** Groups with a message under way, and what waits behind it. */
  readonly groups: Map<string, Behind<P>>;
  target: PeerId | undefined;
  /** Who was asked over the link that is up: its answers count, also late ones, and if it is no replica. */
  readonly asked: Set<PeerId>;
  /** The target, once it has said that it writes the lane. */
  writer: PeerId | undefined;
  /** Who else is asked whether it does, and with which item. */
  look: { readonly at: PeerId; readonly token: string } | undefined;
  lookMs: number;
  /** Something was answered for good since the last look. */
  advanced: boolean;
  tries: number;
  redirects: number;
  delayMs: number;
  timer: Timer | undefined;
}

/**
 * The entry node's part of an enqueue in an ordered queue: it goes to whoever writes the lane, again and again until
 * it is answered or its time is over. The token makes that one message. Of a group one is under way at a time, so
 * that what was enqueued first comes first whatever becomes of writers and links.
 */
export class Entry<P extends PendingEnqueue> {
  readonly #context: Context;
  readonly #members: Members;
  readonly #acceptor: Acceptor;
  readonly #answer: (pending: P, result: EnqueueResult) => void;
  readonly #queues = new Map<QueueId, readonly Side<P>[]>();
  readonly #lanes = new Map<LaneId, Side<P>>();
  readonly #dirty = new Set<Side<P>>();
  readonly #where = new Map<P, readonly [Side<P>, Item<P>]>();
  #count = 0;

  constructor(
    context: Context,
    members: Members,
    acceptor: Acceptor,
    answer: (pending: P, result: EnqueueResult) => void,
  ) {
    this.#context = context;
    this.#members = members;
    this.#acceptor = acceptor;
    this.#answer = answer;
  }

  #sides(definition: Definition): readonly Side<P>[] {
    const known = this.#queues.get(definition.queue);
    if (known !== undefined) return known;
    const sides = shardDescriptors(definition).map((descriptor): Side<P> => {
      const lane = this.#context.laneIdOf(descriptor);
      const rest = {
        newest: descriptor,
        target: undefined,
        writer: undefined,
        look: undefined,
        lookMs: 0,
        advanced: false,
        tries: 0,
        redirects: 0,
        delayMs: 0,
        timer: undefined,
      };
      const [items, due, groups, asked] = [new Map(), new Set<Item<P>>(), new Map(), new Set<PeerId>()];
      return { lane, descriptor, items, due, groups, asked, ...rest };
    });
    this.#queues.set(definition.queue, sides);
    for (const side of sides) this.#lanes.set(side.lane, side);
    return sides;
  }

  /** An heir is, or will be, where these messages are. `false`: that is known, or is of no lane the definition names. */
  move(definition: Definition, heir: Descriptor): boolean {
    const { shard, heirOf } = heir;
    const side = shard && this.#sides(definition)[shard.no];
    if (side === undefined || side.lane !== heirOf?.root) return false;
    if ((shard?.moves ?? 0) <= (side.newest.shard?.moves ?? 0) || !isHeir(definition, heir)) return false;
    side.newest = heir;
    return true;
  }

  /** Where lanes of ordered queues went, of those that moved. */
  moved(): readonly Descriptor[] {
    return [...this.#lanes.values()].flatMap(({ newest }) => (newest.heirOf === undefined ? [] : [newest]));
  }

  /** Who may have the messages with this lane in their ids, those that have them now first. */
  replicasOf(root: LaneId): readonly Replica[] {
    const { newest, descriptor } = this.#lanes.get(root) ?? {};
    if (newest === undefined || descriptor === undefined) return [];
    const before = descriptor.replicas.filter(
      ({ store }) => !newest.replicas.some((one) => one.store === store),
    );
    return [...newest.replicas, ...before];
  }

  /** The queue was deleted: all that it waited for is answered. */
  forget(queue: QueueId, answer: (pending: P) => void): void {
    const sides = this.#queues.get(queue);
    if (sides === undefined) return;
    this.#queues.delete(queue);
    for (const side of sides) {
      this.#lanes.delete(side.lane);
      this.#dirty.delete(side);
      this.#context.timers.cancel(side.timer);
    }
    for (const [pending, [side]] of this.#where) {
      if (!sides.includes(side)) continue;
      this.#where.delete(pending);
      answer(pending);
    }
  }

  add(definition: Definition, pending: P): void {
    const { ordered } = definition;
    if (ordered === undefined) return;
    const no = shardOf(ordered, pending.attributes, this.#count);
    const side = this.#sides(definition)[no];
    if (side === undefined) return;
    this.#count += 1;
    const token = this.#context.pid.slice(-16) + this.#count.toString(36);
    const attributes = { ...(pending.attributes ?? PLAIN), token };
    const value = enqueued({ ...pending, attributes }, definition.leaseMs);
    const { group } = attributes;
    const rest = { sentMs: undefined, open: 0, at: undefined, seq: undefined };
    const item = { pending, token, group, value, ...rest };
    this.#where.set(pending, [side, item]);
    const behind = group === undefined ? undefined : side.groups.get(group);
    if (behind !== undefined) return void behind.items.add(item);
    if (group !== undefined) side.groups.set(group, nobodyBehind());
    this.#begin(side, item);
  }

  #begin(side: Side<P>, item: Item<P>): void {
    side.items.set(item.token, item);
    side.due.add(item);
    // While it waits to ask again, what comes meanwhile waits too.
    if (side.timer === undefined || side.delayMs === 0) this.#dirty.add(side);
  }

  /** Its time is over: what may be said of it. */
  expire(pending: P): EnqueueResult {
    const result = this.whatIfLeft(pending);
    const [side, item] = this.#where.get(pending) ?? [];
    if (side !== undefined && item !== undefined) this.#end(side, item);
    return result;
  }

  /** What may be said of it if nobody says more. */
  whatIfLeft(pending: P): EnqueueResult {
    const [side, item] = this.#where.get(pending) ?? [];
    if (side === undefined || item === undefined) return { code: "INDETERMINATE", lane: undefined, seq: 0 };
    const { lane, newest } = side;
    if (item.open > 0) {
      return { code: "INDETERMINATE", lane: item.seq === undefined ? undefined : lane, seq: item.seq ?? 0 };
    }
    const have = newest.replicas.filter(({ store }) => this.#context.reachable(store)).length;
    return { code: "QUORUM_UNAVAILABLE", have, need: Math.floor(newest.replicas.length / 2) + 1 };
  }

  #end(side: Side<P>, item: Item<P>): void {
    this.#where.delete(item.pending);
    const behind = item.group === undefined ? undefined : side.groups.get(item.group);
    if (!side.items.delete(item.token)) {
      behind?.items.delete(item);
      return;
    }
    side.due.delete(item);
    const next = behind?.turns.next().value;
    if (next !== undefined) {
      behind?.items.delete(next);
      this.#begin(side, next);
    } else if (item.group !== undefined) side.groups.delete(item.group);
  }

  // Sending.

  flush(): void {
    if (this.#dirty.size === 0) return;
    for (const side of this.#dirty) this.#send(side);
    this.#dirty.clear();
  }

  #send(side: Side<P>): void {
    const { due } = side;
    if (due.size === 0) {
      // What others have is still looked after: they may never answer.
      if (side.items.size > 0 && side.timer === undefined) this.#at(side, this.#context.tuning.askTimeoutMs);
      return;
    }
    const target = (side.target ??= this.#find(side));
    if (target === undefined) return this.#backOff(side);
    side.due = new Set();
    this.#ask(side, target, due);
    // Not put off by what is sent meanwhile: there may be more of that for as long as nothing is answered.
    if (side.timer === undefined) this.#at(side, this.#context.tuning.askTimeoutMs);
  }

  #ask({ lane, asked }: Side<P>, to: PeerId, wanted: Iterable<Item<P>>): void {
    const { frameBytes } = this.#context.tuning;
    asked.add(to);
    let items: EnterItem[] = [];
    let bytes = 0;
    for (const item of wanted) {
      if (item.at === to || this.#isLate(item)) continue;
      item.sentMs ??= this.#context.now.monoMs;
      item.open += 1;
      item.at = to;
      items.push({ value: item.value, body: item.pending.body });
      bytes += ITEM_BYTES + item.pending.body.length;
      if (bytes < frameBytes) continue;
      this.#context.send(to, { type: "enter", lane, items });
      items = [];
      bytes = 0;
    }
    if (items.length > 0) this.#context.send(to, { type: "enter", lane, items });
  }

  /** Asked so late, it could be taken for new: its first answer may still come. */
  #isLate({ sentMs }: Item<P>): boolean {
    return sentMs !== undefined && this.#context.now.monoMs - sentMs > this.#context.tuning.tokenKeepMs / 2;
  }

  /**
   * All is on its way to who writes the lane, as far as this node knows. If nothing comes of it, one item asks whether somebody
   * else does by now: with all of them a slow link would carry the same bodies again and again, and be the slower for it.
   */
  #lookElsewhere(side: Side<P>): void {
    const { askTimeoutMs } = this.#context.tuning;
    if (side.advanced) side.lookMs = 0;
    else this.#lookAt(side, this.#findOther(side));
    side.advanced = false;
    side.lookMs = Math.min(LOOKS_APART_MAX * askTimeoutMs, Math.max(askTimeoutMs, side.lookMs * 2));
    this.#at(side, side.lookMs);
  }

  #findOther(side: Side<P>): PeerId | undefined {
    for (let tried = 0; tried < LOOKS_APART_MAX; tried += 1) {
      const other = this.#find(side);
      if (other !== side.target) return other;
      side.tries += 1;
    }
    return undefined;
  }

  #lookAt(side: Side<P>, at: PeerId | undefined): void {
    if (at === undefined) return;
    let least: Item<P> | undefined;
    let seen = 0;
    for (const item of side.items.values()) {
      if (this.#isLate(item)) continue;
      if (least === undefined || item.pending.body.length < least.pending.body.length) least = item;
      if ((seen += 1) >= LOOKED_THROUGH_MAX) break;
    }
    if (least === undefined) return;
    const { value, token, pending } = least;
    least.open += 1;
    side.look = { at, token };
    side.asked.add(at);
    this.#context.send(at, { type: "enter", lane: side.lane, items: [{ value, body: pending.body }] });
  }

  /** Whoever this store promised the lane to, or else its replicas in turn. */
  #find({ lane, tries }: Side<P>): PeerId | undefined {
    const promise = this.#acceptor.newest(lane)?.promise;
    const peer = promise === undefined ? undefined : this.#members.peerOf(pidStore(promise.pid));
    if (tries % 2 === 0 && peer !== undefined && this.#members.isGreeted(peer)) return peer;
    const up = this.replicasOf(lane).filter(({ store }) => this.#context.reachable(store));
    // What is known of it may be wrong: now and then somebody else is asked, who may know better.
    const others = up.length === 0 || tries % 8 === 7 ? this.#members.writers() : [];
    if (others.length > 0) return others[(up.length === 0 ? tries : tries >> 3) % others.length];
    return up[(tries >> 1) % Math.max(1, up.length)]?.peer;
  }

  /** Nobody to ask, or nobody there: somebody else is asked a while later. */
  #backOff(side: Side<P>): void {
    const { verdictRetryMs, verdictRetryMaxMs } = this.#context.tuning;
    side.target = undefined;
    side.writer = undefined;
    side.delayMs = Math.min(verdictRetryMaxMs, Math.max(verdictRetryMs, side.delayMs * 2));
    this.#at(side, side.delayMs);
  }

  /** What nobody is asked for then is asked; and if nothing is answered until then, it is looked elsewhere. */
  #at(side: Side<P>, delayMs: number): void {
    this.#context.timers.cancel(side.timer);
    side.timer = this.#context.timers.set(this.#context.now.monoMs + delayMs, () => {
      side.timer = undefined;
      side.redirects = 0;
      side.tries += 1;
      if (side.items.size === 0) side.delayMs = side.lookMs = 0;
      if (side.due.size > 0) this.#dirty.add(side);
      if (side.items.size > 0 && (side.target !== undefined || side.due.size === 0))
        this.#lookElsewhere(side);
    });
  }

  /** The link to `peer` ended: what it has not answered is asked anew. */
  linkDown(peer: PeerId): void {
    for (const side of this.#lanes.values()) {
      side.asked.delete(peer);
      for (const item of side.items.values()) {
        if (item.at !== peer) continue;
        item.at = undefined;
        side.due.add(item);
      }
      if (side.look?.at === peer) side.look = undefined;
      if (side.target === peer) this.#restart(side);
      else if (side.due.size > 0 && side.delayMs === 0) this.#dirty.add(side);
    }
  }

  /** Somebody came: lanes without anybody to ask may have one now. */
  linkUp(): void {
    for (const side of this.#lanes.values()) {
      if (side.target === undefined && side.items.size > 0) this.#restart(side);
    }
  }

  #restart(side: Side<P>): void {
    this.#context.timers.cancel(side.timer);
    side.timer = undefined;
    side.delayMs = 0;
    side.lookMs = 0;
    side.tries += 1;
    side.target = undefined;
    side.writer = undefined;
    this.#dirty.add(side);
  }

  // Answers.

  entered(from: PeerId, { lane, items, hint }: Message & { type: "entered" }): void {
    const side = this.#lanes.get(lane);
    if (side === undefined) return;
    if (!side.asked.has(from) && !this.replicasOf(lane).some(({ peer }) => peer === from)) return;
    const isLook = side.look?.at === from && items.some(({ token }) => token === side.look?.token);
    if (isLook) side.look = undefined;
    let retries = 0;
    let taken = false;
    for (const answer of items) {
      const item = side.items.get(answer.token);
      if (item === undefined) continue;
      if (this.#take(side, item, answer)) taken = true;
      else if (item.at === from) {
        item.at = undefined;
        side.due.add(item);
        retries += 1;
      }
    }
    if (taken && (isLook || side.target === from)) this.#follow(side, from);
    const other = hint === undefined || hint === from || !this.#members.isGreeted(hint) ? undefined : hint;
    const isBound = side.redirects >= REDIRECTS_MAX;
    if (side.target !== from) {
      if (retries > 0 && side.delayMs === 0) this.#dirty.add(side);
      if (!isLook || other === undefined || other === side.target || isBound) return;
      side.redirects += 1;
      return this.#lookAt(side, other);
    }
    if (retries === 0) {
      side.delayMs = 0;
      if (side.due.size > 0) this.#dirty.add(side);
    } else if (other === undefined || isBound) this.#backOff(side);
    else {
      side.redirects += 1;
      side.target = other;
      side.writer = undefined;
      this.#dirty.add(side);
    }
  }

  /** It writes the lane: what is on its way to others comes here too. */
  #follow(side: Side<P>, writer: PeerId): void {
    if (side.writer === writer) return;
    side.target = writer;
    side.writer = writer;
    for (const item of side.items.values()) if (item.at !== writer) side.due.add(item);
    if (side.due.size > 0) this.#dirty.add(side);
  }

  /** `false`: it is to be asked again. */
  #take(side: Side<P>, item: Item<P>, { code, seq }: EnteredItem): boolean {
    switch (code) {
      case "PENDING":
        item.seq = seq;
        return true;
      case "OK":
      case "DUPLICATE": {
        const { lane } = side;
        side.advanced = true;
        this.#end(side, item);
        this.#answer(item.pending, { code: "OK", lane, seq, duplicate: code === "DUPLICATE" });
        return true;
      }
      case "FULL":
        side.advanced = true;
        this.#end(side, item);
        this.#answer(item.pending, { code: "QUEUE_FULL", limit: "limit of messages or keys of one lane" });
        return true;
      case "ELSEWHERE":
        item.open -= 1;
        if (item.open === 0) item.sentMs = undefined; // Nobody took it: it may be asked at any time.
        return false;
      case "RETRY":
        return false;
    }
  }
}

function nobodyBehind<P>(): Behind<P> {
  const items = new Set<Item<P>>();
  return { items, turns: items.values() };
}

/** Whether a lane can be an heir in such a queue. */
function isHeir(
  { replicas, ordered }: Definition,
  { wanted, shard, originPid, replicas: on }: Descriptor,
): boolean {
  const isAlike = wanted === replicas && shard?.dedupMs === ordered?.dedupMs && pidBoot(originPid) === 0;
  return isAlike && on.length <= wanted && new Set(on.map(({ store }) => store)).size === on.length;
}
