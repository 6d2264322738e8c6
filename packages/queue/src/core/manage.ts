import type { Acceptor, AcceptorLane } from "./acceptor.ts";
import type { Context } from "./context.ts";
import { isInDeadView } from "./dead-queue.ts";
import { listedLanes, restricted } from "./listed-lanes.ts";
import type { Register } from "./lane-register.ts";
import type { LaneWriter } from "./lane-writer.ts";
import { SEQ_LAST } from "./message-id.ts";
import type { Counts, GroupItem, ListedLanes, ManagedItem, Message, RosterEntry } from "./messages.ts";
import { isForgotten } from "./ordered.ts";
import { isVoid } from "./register.ts";
import type { Timer } from "./timers.ts";
import type { LaneId, ManageAct, ManageScope, PeerId, Place, QueueId, Replica } from "./types.ts";

/** Messages one answer names, or one request changes, at most. */
export const MANAGE_ITEMS_MAX = 1_000;
/** Groups one answer names at most. */
const GROUPS_MAX = 256;
/** About how many bytes one answer takes at most. */
const MANAGE_BYTES_MAX = 200_000;
/** Requests of others that one node has under way at most; further ones are not answered. */
const SWEEPS_MAX = 256;
/** Questions of this node that are open at most; further ones get no answer. */
const OPEN_MAX = 1_024;
/** How often a sweep looks whether its changes are chosen, in milliseconds. */
const LOOK_MS = 20;

/** What one node asks all who write lanes. */
export interface ManageRequest {
  readonly requestId: number;
  readonly queue: QueueId;
  readonly act: ManageAct;
  readonly scope: ManageScope;
  /** Only this message. */
  readonly only: Place | undefined;
  /** Of changes: in all. Of a list: of each writer. */
  readonly limit: number;
  /** Of a list: what lies behind it, whoever writes it. */
  readonly after?: Place | undefined;
  /** Of a list: those that were enqueued first; `more` tells only that there are others. */
  readonly oldest?: boolean | undefined;
  /** Asks only these, for what lies behind these places; `undefined`: from the beginning. */
  readonly from: Places | undefined;
  readonly deadlineMs: number;
}

type Places = ReadonlyMap<PeerId, Place | undefined>;

/** What the writers said, together. */
export interface ManageResult {
  readonly items: readonly (ManagedItem & { readonly peer: PeerId })[];
  readonly count: number;
  readonly counts: Counts;
  readonly consumers: readonly (RosterEntry & { readonly peer: PeerId })[];
  readonly groups: readonly (GroupItem & { readonly peer: PeerId })[];
  /** Shards of the queue that somebody writes. */
  readonly shards: readonly number[];
  /** Of a list: which lanes are told of, and known of, by each who answered. */
  readonly lanes: readonly (ListedLanes | undefined)[];
  /** Who may have more, and behind what: `from` of the next question. */
  readonly more: Places;
  /** Who did not answer in time. */
  readonly missing: readonly PeerId[];
}

const LANE_ROLES = ["writer", "replica"] as const;
const LANE_STATES = ["open", "ended", "closed"] as const;

/** What a node's lanes hold, and how many it keeps. */
export interface Census {
  readonly queues: ReadonlyMap<QueueId, Counts>;
  readonly lanes: readonly {
    readonly role: (typeof LANE_ROLES)[number];
    readonly state: (typeof LANE_STATES)[number];
    readonly count: number;
  }[];
}

/** What one replica has of a message. */
export interface Inspection extends Omit<Message & { type: "inspected" }, "type" | "token"> {
  readonly peer: PeerId;
}

interface Open<Answer> {
  readonly waiting: Set<PeerId>;
  /** Whose link went down before they answered. */
  readonly lost: PeerId[];
  readonly answers: (Answer & { readonly peer: PeerId })[];
  readonly timer: Timer;
  readonly then: (
    answers: readonly (Answer & { readonly peer: PeerId })[],
    missing: readonly PeerId[],
  ) => void;
}

type Managed = Omit<Message & { type: "managed" }, "type" | "token">;
type Inspected = Omit<Message & { type: "inspected" }, "type" | "token">;

interface ManageHost {
  writers(): readonly PeerId[];
  /** Peers that have a store, are not known to be gone, and cannot be asked now. */
  unheard(): readonly PeerId[];
  /** Whether somebody serves the lane, as far as this node can tell. */
  isServed(lane: AcceptorLane): boolean;
  /** Everybody that can be asked, with a store or without. */
  peers(): readonly PeerId[];
  lanes(): Iterable<LaneWriter>;
  isWeak(lane: LaneWriter): boolean;
  /** Does away with a queue, here and wherever it is heard of. */
  delete(queue: QueueId): void;
  /** Who may know of messages with this lane in their ids; nobody, if nothing is known of it. */
  replicasOf(root: LaneId): readonly Replica[];
  consumers(queue: QueueId): readonly RosterEntry[];
}

/** Questions of operators: what a queue holds, what became of one message, and what is to be done with them. */
export class Manage {
  readonly #context: Context;
  readonly #acceptor: Acceptor;
  readonly #host: ManageHost;
  readonly #managing = new Map<number, Open<Managed>>();
  readonly #inspecting = new Map<number, Open<Inspected>>();
  readonly #bodies = new Map<string, { readonly timer: Timer; readonly then: (body?: Uint8Array) => void }>();
  #token = 0;
  #sweeps = 0;

  constructor(context: Context, acceptor: Acceptor, host: ManageHost) {
    this.#context = context;
    this.#acceptor = acceptor;
    this.#host = host;
  }

  // Who asks.

  #open<A>(
    open: Map<number, Open<A>>,
    peers: readonly PeerId[],
    deadlineMs: number,
    then: Open<A>["then"],
  ): number {
    this.#token += 1;
    const token = this.#token;
    if (open.size >= OPEN_MAX) {
      then([], peers);
      return token;
    }
    const timer = this.#context.timers.set(deadlineMs, () => {
      const late = open.get(token);
      open.delete(token);
      if (late !== undefined) then(late.answers, [...late.lost, ...late.waiting]);
    });
    open.set(token, { waiting: new Set(peers), lost: [], answers: [], timer, then });
    return token;
  }

  #answered<A extends object>(open: Map<number, Open<A>>, from: PeerId, token: number, answer: A): void {
    const one = open.get(token);
    if (one?.waiting.delete(from) !== true) return;
    one.answers.push({ ...answer, peer: from });
    this.#endIfComplete(open, token, one);
  }

  #endIfComplete<A>(open: Map<number, Open<A>>, token: number, one: Open<A>): void {
    if (one.waiting.size > 0) return;
    open.delete(token);
    this.#context.timers.cancel(one.timer);
    one.then(one.answers, one.lost);
  }

  /** What it was asked over that link it does not answer any more. */
  linkDown(peer: PeerId): void {
    this.#lose(this.#managing, peer);
    this.#lose(this.#inspecting, peer);
  }

  #lose<A>(open: Map<number, Open<A>>, peer: PeerId): void {
    for (const [token, one] of [...open]) {
      if (!one.waiting.delete(peer)) continue;
      one.lost.push(peer);
      this.#endIfComplete(open, token, one);
    }
  }

  ask(request: ManageRequest, then: (result: ManageResult) => void): void {
    const { queue, act, scope, only, from, deadlineMs, oldest = false } = request;
    const asksAll = act === "consumers" || act === "delete";
    const all = asksAll ? this.#host.peers() : this.#host.writers();
    const known = from === undefined ? all : all.filter((peer) => from.has(peer));
    const isShared = only === undefined && (act === "redrive" || act === "discard");
    const shares = isShared ? sharesOf(request.limit, known) : undefined;
    const peers = shares === undefined ? known : [...shares.keys()];
    const gone = from === undefined ? [] : [...from.keys()].filter((peer) => !all.includes(peer));
    const unheard = this.#host.unheard();
    const token = this.#open(this.#managing, peers, deadlineMs, (answers, late) => {
      const missing = [...new Set([...late, ...gone, ...unheard])];
      const more = new Map(
        known.filter((peer) => !peers.includes(peer)).map((peer) => [peer, from?.get(peer)]),
      );
      for (const { peer, last } of answers) if (last !== undefined) more.set(peer, last);
      const items = answers.flatMap(({ peer, items: found }) => found.map((item) => ({ ...item, peer })));
      const count = answers.reduce((sum, answer) => sum + answer.count, 0);
      const counts = sumOf(answers.map((answer) => answer.counts));
      const consumers = answers.flatMap((a) => a.consumers.map((one) => ({ ...one, peer: a.peer })));
      const groups = answers.flatMap((a) => a.groups.map((one) => ({ ...one, peer: a.peer })));
      const shards = answers.flatMap((answer) => answer.shards);
      const lanes = answers.map((answer) => answer.lanes);
      then({ items, count, counts, consumers, groups, shards, lanes, more, missing });
    });
    for (const peer of peers) {
      const limit = shares?.get(peer) ?? request.limit;
      const after = from?.get(peer) ?? request.after;
      this.#context.send(peer, { type: "manage", token, queue, act, scope, only, limit, after, oldest });
    }
  }

  managed(from: PeerId, message: Message & { type: "managed" }): void {
    this.#answered(this.#managing, from, message.token, message);
  }

  inspect(
    message: { readonly lane: LaneId; readonly seq: number },
    deadlineMs: number,
    then: (found: readonly Inspection[], missing: readonly PeerId[]) => void,
  ): void {
    const { lane, seq } = message;
    const replicas = [...new Set(this.#host.replicasOf(lane).map(({ peer }) => peer))];
    const writers = this.#host.writers();
    const away = replicas.filter((peer) => !writers.includes(peer));
    const peers = replicas.length === 0 ? writers : replicas.filter((peer) => writers.includes(peer));
    const token = this.#open(this.#inspecting, peers, deadlineMs, (answers, missing) => {
      then(answers, [...missing, ...away]);
    });
    for (const peer of peers) this.#context.send(peer, { type: "inspect", token, lane, seq });
  }

  inspected(from: PeerId, message: Message & { type: "inspected" }): void {
    this.#answered(this.#inspecting, from, message.token, message);
  }

  /** A message's body, from who has it; `undefined` if it has no more, or does not answer. */
  fetch(
    peer: PeerId,
    message: { readonly lane: LaneId; readonly seq: number },
    deadlineMs: number,
    then: (body: Uint8Array | undefined) => void,
  ): void {
    const { lane, seq } = message;
    const key = `${peer} ${lane}-${seq}`;
    if (this.#bodies.has(key) || this.#bodies.size >= OPEN_MAX) return then(undefined);
    const timer = this.#context.timers.set(deadlineMs, () => {
      this.#bodies.delete(key);
      then(undefined);
    });
    this.#bodies.set(key, { timer, then });
    this.#context.send(peer, { type: "getBody", lane, seq });
  }

  body(from: PeerId, { lane, seq, body }: Message & { type: "body" }): void {
    const key = `${from} ${lane}-${seq}`;
    const waiting = this.#bodies.get(key);
    if (waiting === undefined) return;
    this.#bodies.delete(key);
    this.#context.timers.cancel(waiting.timer);
    waiting.then(body);
  }

  // Who is asked.

  manage(from: PeerId, message: Message & { type: "manage" }): void {
    const { token, queue, act, scope, only, after, oldest } = message;
    const limit = Math.min(message.limit, MANAGE_ITEMS_MAX);
    let last: Place | undefined;
    const known = act === "list" && !oldest ? this.#listedLanes(queue, after) : undefined;
    const answer = (items: readonly ManagedItem[], count: number, counts: Counts): void => {
      const listed = { last, lanes: known && restricted(known.lanes, last) };
      this.#context.send(from, {
        type: "managed",
        token,
        items,
        count,
        counts,
        consumers,
        ...order,
        ...listed,
      });
    };
    const consumers = act === "consumers" ? this.#host.consumers(queue).slice(0, MANAGE_ITEMS_MAX) : [];
    const order = act === "groups" ? this.#groups(queue) : NO_ORDER;
    if (act === "groups") return answer([], order.groups.length, NO_COUNTS);
    if (act === "consumers") return answer([], consumers.length, NO_COUNTS);
    if (act === "count") return answer([], 0, this.#count(queue));
    if (act === "delete") return this.#delete(from, token, queue);
    const found: (readonly [LaneWriter, Register])[] = [];
    const items: ManagedItem[] = [];
    let bytes = 0;
    const matching = oldest
      ? this.#oldestFirst(queue, act, scope)
      : this.#matching(queue, act, scope, only, after);
    for (const [lane, register] of matching) {
      if (found.length >= limit || bytes >= MANAGE_BYTES_MAX) {
        const [before] = found.slice(-1);
        last = before && { lane: before[0].root, seq: before[1].seq };
        break;
      }
      if (known?.end !== undefined && lane.root > known.end) break;
      found.push([lane, register]);
      if (act !== "list") continue;
      const { attributes, reason } = register.value;
      bytes += 200 + (reason?.length ?? 0) + 500 * (attributes?.failures.length ?? 0);
      items.push({ lane: lane.root, seq: register.seq, value: register.value });
    }
    if (known?.end !== undefined) last ??= { lane: known.end, seq: SEQ_LAST };
    if (act === "list") return answer(items, items.length, NO_COUNTS);
    if (this.#sweeps >= SWEEPS_MAX) return;
    const changed = found.flatMap(([lane, { seq }]) => {
      const register = lane.manage(seq, act);
      return register === undefined ? [] : [[lane, register] as const];
    });
    this.#sweeps += 1;
    this.#await(changed, (count) => {
      this.#sweeps -= 1;
      answer([], count, NO_COUNTS);
    });
  }

  /** Answered once it is on disk: with how many messages the lanes written here had. */
  #delete(from: PeerId, token: number, queue: QueueId): void {
    const { ready, delayed, leased, dead } = this.#count(queue);
    this.#host.delete(queue);
    const nothing = { items: [], counts: NO_COUNTS, consumers: [], ...NO_ORDER };
    const count = ready + delayed + leased + dead;
    this.#context.sendAfter(from, {
      type: "managed",
      token,
      count,
      ...nothing,
      last: undefined,
      lanes: undefined,
    });
  }

  /** Groups of the lanes this node writes, those with most messages first. */
  #groups(queue: QueueId): typeof NO_ORDER {
    const groups: GroupItem[] = [];
    const shards: number[] = [];
    for (const { root, descriptor, order, registers, isOpen, isServing } of this.#host.lanes()) {
      if (descriptor.queue !== queue || order === undefined || !isOpen || !isServing) continue;
      shards.push(descriptor.shard?.no ?? 0);
      for (const { group, count, seq } of order.groups()) {
        const register = registers.peek(seq);
        if (register !== undefined)
          groups.push({ group, count, head: { lane: root, seq, value: register.value } });
      }
    }
    groups.sort((a, b) => b.count - a.count);
    return { groups: groups.slice(0, GROUPS_MAX), shards };
  }

  /** Behind `end` there are more than one answer names. */
  #listedLanes(queue: QueueId, after: Place | undefined): ReturnType<typeof listedLanes> {
    const served = [...this.#host.lanes()].filter(
      (lane) => lane.descriptor.queue === queue && this.#isListed(lane),
    );
    const kept: [LaneId, number][] = [];
    for (const { lane, descriptor, closed, registers } of this.#acceptor.lanes()) {
      if (descriptor.queue !== queue || closed || registers.size === 0) continue;
      kept.push([descriptor.heirOf?.root ?? lane, registers.size]);
    }
    const roots = served.map(({ root }) => root);
    return listedLanes(roots, kept, after);
  }

  /** Whoever steals a lane that has an heir knows nothing of what is in that; who imports into one lists what it comes from. */
  #isListed({ lane, root, course }: LaneWriter): boolean {
    if (this.#acceptor.newest(root)?.lane !== lane) return false;
    if (!course.isImporting) return course.isHere;
    return [...this.#host.lanes()].some((one) => one.root === root && hasMessages(one));
  }

  *#matching(
    queue: QueueId,
    act: ManageAct,
    scope: ManageScope,
    only: Place | undefined,
    after: Place | undefined,
  ): Iterable<readonly [LaneWriter, Register]> {
    // In an order that stays, whatever else changes: a question is asked in parts.
    const lanes = [...this.#lanesOf(queue)].toSorted((a, b) => (a.root < b.root ? -1 : 1));
    for (const lane of lanes) {
      if (only !== undefined && only.lane !== lane.root) continue;
      if (after !== undefined && lane.root < after.lane) continue;
      const fromSeq = after?.lane === lane.root ? after.seq + 1 : 0;
      const all = only === undefined ? inOrder(lane, scope, fromSeq) : [lane.registers.peek(only.seq)];
      for (const register of matchingOf(all, act, scope)) yield [lane, register];
    }
  }

  /** A lane is in this order by itself, as far as clocks are. */
  *#oldestFirst(
    queue: QueueId,
    act: ManageAct,
    scope: ManageScope,
  ): Iterable<readonly [LaneWriter, Register]> {
    const heads = [...this.#lanesOf(queue)].map((lane) => {
      const rest = matchingOf(inOrder(lane, scope, 0), act, scope);
      return { lane, rest, next: rest.next() };
    });
    for (;;) {
      let first: (typeof heads)[number] | undefined;
      for (const head of heads) {
        if (enqueuedAt(head) < enqueuedAt(first)) first = head;
      }
      if (first?.next.done !== false) return;
      yield [first.lane, first.next.value];
      first.next = first.rest.next();
    }
  }

  /** Answers once all are chosen, or their lanes are lost: the others did not happen here. */
  #await(changed: readonly (readonly [LaneWriter, Register])[], then: (count: number) => void): void {
    const isSettled = ([lane, register]: readonly [LaneWriter, Register]): boolean =>
      lane.isLost || register.chosen || lane.registers.peek(register.seq) !== register;
    if (changed.every(isSettled)) return then(changed.filter(([lane]) => !lane.isLost).length);
    this.#context.timers.set(this.#context.now.monoMs + LOOK_MS, () => this.#await(changed, then));
  }

  #count(queue: QueueId): Counts {
    const lanes = [...this.#lanesOf(queue)];
    return { ...this.#countIn(lanes), unserved: this.#unserved().get(queue) ?? 0 };
  }

  *#lanesOf(queue: QueueId): Iterable<LaneWriter> {
    for (const lane of this.#host.lanes()) {
      if (lane.descriptor.queue === queue && hasMessages(lane)) yield lane;
    }
  }

  /** What this node's lanes hold, queue by queue, and the lanes it keeps. */
  census(): Census {
    const byQueue = new Map<QueueId, LaneWriter[]>();
    const written = new Set<LaneId>();
    for (const lane of this.#host.lanes()) {
      written.add(lane.lane);
      if (!hasMessages(lane)) continue;
      const lanes = byQueue.get(lane.descriptor.queue);
      if (lanes === undefined) byQueue.set(lane.descriptor.queue, [lane]);
      else lanes.push(lane);
    }
    const queues = new Map<QueueId, Counts>();
    for (const [queue, lanes] of byQueue) queues.set(queue, this.#countIn(lanes));
    for (const [queue, unserved] of this.#unserved()) {
      queues.set(queue, { ...(queues.get(queue) ?? NO_COUNTS), unserved });
    }
    const lanes = LANE_ROLES.flatMap((role) => LANE_STATES.map((state) => ({ role, state, count: 0 })));
    for (const lane of this.#acceptor.lanes()) {
      const state = lane.closed ? "closed" : lane.end === undefined ? "open" : "ended";
      const role = written.has(lane.lane) ? "writer" : "replica";
      const row = lanes.find((one) => one.role === role && one.state === state);
      if (row !== undefined) row.count += 1;
    }
    return { queues, lanes };
  }

  #countIn(lanes: readonly LaneWriter[]): Counts {
    const { wallMs } = this.#context.now;
    const counts = { ...NO_COUNTS };
    for (const lane of lanes) {
      if (lane.registers.size === 0) continue;
      counts.lanes += 1;
      if (this.#host.isWeak(lane)) counts.weakLanes += 1;
      if (lane.course.isMoving) counts.movingLanes += 1;
    }
    for (const register of counted(lanes, counts)) {
      const { value } = register;
      if (isDead(register)) counts.dead += 1;
      else if (value.state !== "READY") counts.leased += 1;
      else if (value.notBeforeWallMs > wallMs) counts.delayed += 1;
      else counts.ready += 1;
      if (isDead(register) || value.enqueuedWallMs === 0) continue;
      const oldest = counts.oldestWallMs;
      counts.oldestWallMs = oldest === 0 ? value.enqueuedWallMs : Math.min(oldest, value.enqueuedWallMs);
    }
    return counts;
  }

  /** Messages of lanes whose writer is away, as this replica has them: whoever takes a lane over will count them. */
  #unserved(): ReadonlyMap<QueueId, number> {
    const counts = new Map<QueueId, number>();
    for (const lane of this.#acceptor.lanes()) {
      const { size } = lane.registers;
      if (lane.closed || size === 0 || this.#host.isServed(lane)) continue;
      const { queue } = lane.descriptor;
      counts.set(queue, (counts.get(queue) ?? 0) + size);
    }
    return counts;
  }

  /** What this store accepted, whatever the lane's writer makes of it. */
  onInspect(from: PeerId, { token, lane, seq }: Message & { type: "inspect" }): void {
    const known = this.#acceptor.newest(lane);
    const stored = known?.registers.get(seq);
    const register = stored && { seq, ballot: stored.ballot, value: stored.value };
    let isWriter = false;
    for (const writer of this.#host.lanes()) isWriter ||= writer.root === lane && writer.isServing;
    this.#context.send(from, {
      type: "inspected",
      token,
      store: this.#context.store,
      known: known !== undefined,
      isWriter,
      finished: known !== undefined && isFinished(known, seq),
      promise: known?.promise,
      register,
      end: known?.end?.value,
    });
  }
}

/** Whether a message of the lane is known to be over. Of a closed one only its END is left: it had no other, or its heir knows. */
function isFinished({ closed, end, finished, descriptor }: AcceptorLane, seq: number): boolean {
  if (!closed) return finished.has(seq);
  if (end === undefined || end.value.heir !== undefined || isVoid(end.value, seq)) return false;
  return descriptor.shard === undefined || !isForgotten(end.value.voids, seq);
}

const NO_ORDER: { readonly groups: readonly GroupItem[]; readonly shards: readonly number[] } = {
  groups: [],
  shards: [],
};
/** Of a queue that is empty. */
const NO_COUNTS: Counts = {
  ready: 0,
  delayed: 0,
  leased: 0,
  dead: 0,
  unserved: 0,
  lanes: 0,
  weakLanes: 0,
  movingLanes: 0,
  oldestWallMs: 0,
};

/** How many each may change, so that all together change no more than the limit; those without a share are asked later. */
function sharesOf(limit: number, peers: readonly PeerId[]): ReadonlyMap<PeerId, number> {
  const whole = Math.floor(limit / peers.length);
  const shares = peers.map((peer, at): [PeerId, number] => {
    return [peer, Math.min(MANAGE_ITEMS_MAX, whole + (at < limit % peers.length ? 1 : 0))];
  });
  return new Map(shares.filter(([, share]) => share > 0));
}

/** Messages on their way to an heir are counted where they come from. */
function hasMessages({ course }: LaneWriter): boolean {
  return !course.isImporting && !course.isMoved;
}

/** Messages to count one by one; those that rest are all ready, and the first of a lane is its oldest. */
function* counted(lanes: readonly LaneWriter[], counts: { ready: number }): Iterable<Register> {
  for (const { registers } of lanes) {
    const first = registers.firstResting();
    if (first !== undefined) {
      counts.ready += registers.restingCount - 1;
      yield first;
    }
    // What is not chosen yet is there all the same: a message that is done is not over before q have it.
    yield* registers.awake();
  }
}

function sumOf(all: readonly Counts[]): Counts {
  return all.reduce(
    (sum, one) => ({
      ready: sum.ready + one.ready,
      delayed: sum.delayed + one.delayed,
      leased: sum.leased + one.leased,
      dead: sum.dead + one.dead,
      // Each replica of such a lane counts it: the highest count is one that surely holds.
      unserved: Math.max(sum.unserved, one.unserved),
      lanes: sum.lanes + one.lanes,
      weakLanes: sum.weakLanes + one.weakLanes,
      movingLanes: sum.movingLanes + one.movingLanes,
      oldestWallMs:
        sum.oldestWallMs === 0 || one.oldestWallMs === 0
          ? Math.max(sum.oldestWallMs, one.oldestWallMs)
          : Math.min(sum.oldestWallMs, one.oldestWallMs),
    }),
    NO_COUNTS,
  );
}

/** None that is dead rests. */
function inOrder({ registers }: LaneWriter, scope: ManageScope, fromSeq: number): Iterable<Register> {
  return scope === "dead" ? registers.awakeInOrder(fromSeq) : registers.inOrder(fromSeq);
}

function* matchingOf(
  registers: Iterable<Register | undefined>,
  act: ManageAct,
  scope: ManageScope,
): Generator<Register, undefined> {
  for (const register of registers) {
    if (register === undefined || !isIn(register, scope)) continue;
    if (register.chosen || (act === "list" && isThere(register))) yield register;
  }
}

function enqueuedAt(head: { readonly next: IteratorResult<Register, undefined> } | undefined): number {
  return head?.next.value?.value.enqueuedWallMs ?? Number.POSITIVE_INFINITY;
}

/**
 * A message whose next step is under way is in its queue all the while: a list in pages must not pass it over. Its first one may have
 * been chosen with another writer, and acknowledged, which this one has not heard of. What is as good as done is not there.
 */
function isThere({ value }: Register): boolean {
  return value.state !== "DONE";
}

function isIn(register: Register, scope: ManageScope): boolean {
  if (scope === "any") return true;
  if (scope === "dead") return isDead(register);
  return !isDead(register) && (scope === "alive" || register.value.state === "READY");
}

/** Until it is chosen, a death is still its consumer's business: nobody could redrive the message. */
function isDead({ value, chosen, dying }: Register): boolean {
  return isInDeadView(value) && (chosen || !dying);
}
