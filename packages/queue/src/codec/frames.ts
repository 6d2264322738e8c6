import { PID_DIGITS } from "../core/ballot.ts";
import { LISTED_LANES_MAX } from "../core/listed-lanes.ts";
import { MANAGE_ITEMS_MAX } from "../core/manage.ts";
import type {
  Counts,
  CreditItem,
  Deleted,
  Echoes,
  EnteredCode,
  EnterItem,
  Exception,
  GroupItem,
  HeldItem,
  KeptKeys,
  LaneRefusal,
  ListedLanes,
  ManagedItem,
  Message,
  OpRefusal,
  RegisterEntry,
  RosterEntry,
  Section,
} from "../core/messages.ts";
import type { ManageAct, ManageScope, Place, Resolution, Value } from "../core/types.ts";
import { CodecError, Fields, ROUND_MAX, SEQ_MAX } from "./fields.ts";
import { bodyHash } from "./hash.ts";
import * as lists from "./lists.ts";
import { pack, unpack } from "./packr.ts";
import type { Wire } from "./shapes.ts";
import * as shapes from "./shapes.ts";
import {
  BODY_BYTES_MAX,
  decodeValue,
  encodeValue,
  KEY_MAX,
  PEER_MAX,
  SESSION_DIGITS,
  TOKEN_MAX,
  VALUE_BYTES_MAX,
} from "./value.ts";

/** Version of the frames: both ends must speak the same first number. */
const WIRE_VERSION = 5;
const MESSAGES_MAX = 4_096;
const SECTIONS_MAX = 65_536;
const ITEMS_MAX = 65_536;
const QUEUES_MAX = 10_000;
const HEIRS_MAX = 1_024;
const PACKED_BYTES_MAX = 1_024 * 1_024;
const NO_PACKED: Uint8Array = Uint8Array.of(0);
const NUMBER_MAX = 0xffff_ffff;

const LANE_REFUSALS: readonly LaneRefusal[] = ["REFUSED", "CLOSED", "NEED_LANE", "BAD_LANE"];
const OP_REFUSALS: readonly OpRefusal[] = ["OLDER", "GONE", "NEED_BODY", "CONFLICT", "EARLY", "VETO"];
const RESOLUTIONS: readonly Resolution[] = ["ACKED", "NEVER", "PENDING", "UNKNOWN"];
const ACTS: readonly ManageAct[] = ["list", "count", "redrive", "discard", "consumers", "groups", "delete"];
const SCOPES: readonly ManageScope[] = ["any", "alive", "ready", "dead"];
const ENTERED: readonly EnteredCode[] = ["PENDING", "OK", "DUPLICATE", "RETRY", "FULL", "ELSEWHERE"];

/** One frame of several messages: `[version, message, message, …]`, in `memory` if that is given and long enough. */
export function encodeFrame(messages: readonly Message[], memory?: Buffer): Uint8Array {
  lists.resetLists(); // First: a frame that could not be written leaves nothing behind for the next one.
  return pack([WIRE_VERSION, ...messages.map(writeMessage)], memory);
}

/** Reads a peer's frame. Throws {@link CodecError} at the first thing that is not as it must be. */
export function decodeFrame(bytes: Uint8Array): readonly Message[] {
  const frame = unpack(bytes);
  if (!Array.isArray(frame) || frame.length > MESSAGES_MAX + 1) throw new CodecError("not a frame");
  if (frame[0] !== WIRE_VERSION) throw new CodecError("another version of the protocol");
  return frame.slice(1).map((wire) => readMessage(new Fields(wire)));
}

/** Their order is part of the protocol: new ones go to the end. */
const KINDS = [
  "hello",
  "roster",
  "declare",
  "ops",
  "ok",
  "prepare",
  "refused",
  "page",
  "more",
  "closed",
  "getBody",
  "body",
  "askGone",
  "gone",
  "askLane",
  "lane",
  "confirm",
  "confirmed",
  "floor",
  "resolve",
  "resolved",
  "credit",
  "returned",
  "offer",
  "deliver",
  "held",
  "verdicts",
  "settled",
  "manage",
  "managed",
  "inspect",
  "inspected",
  "usage",
  "enter",
  "entered",
  "askHeir",
  "askMoved",
  "moved",
  "heirs",
  "deleted",
] as const satisfies readonly Kind[];

type Kind = Exclude<Message["type"], "synced">;
type Of<K extends Kind> = Extract<Message, { readonly type: K }>;

const WRITERS: { readonly [K in Kind]: (m: Of<K>) => Wire } = {
  hello: (m) => [
    m.store ?? null,
    m.boot,
    m.definitions.map(shapes.definition.write),
    m.consumes,
    m.floor === undefined ? null : shapes.floor.write(m.floor),
    m.echoes,
    ...(m.deleted.length === 0 ? [] : [m.deleted]),
  ],
  roster: (m) => [m.consumes],
  declare: (m) => [shapes.definition.write(m.definition)],
  deleted: (m) => [m.queues],
  ops: (m) => [m.session, m.no, m.sections.map(writeSection), m.echoes],
  ok: (m) => [m.session, m.no, m.exceptions.map(writeException), m.batchNo, m.proof],
  prepare: (m) => [m.lane, shapes.descriptor.write(m.descriptor), m.round, m.pid],
  refused: (m) => [m.lane, m.round, m.promise === undefined ? null : shapes.right.write(m.promise)],
  page: (m) => [
    m.lane,
    m.round,
    m.snapshot,
    m.index,
    m.last,
    m.registers.map((e) => [e.seq, shapes.ballot.write(e.ballot), encodeValue(e.value)]),
    shapes.ranges.write(m.finished),
    m.end === undefined ? null : [shapes.ballot.write(m.end.ballot), shapes.endValue.write(m.end.value)],
    ...(m.keys.length + m.packed.length === 0
      ? []
      : [m.keys.map((k) => [k.seq, ...shapes.keys.write(k.keys)]), lists.packed.write(m.packed)]),
  ],
  more: (m) => [m.lane, m.snapshot, m.index],
  closed: (m) => [m.lane, m.end === undefined ? null : shapes.endValue.write(m.end)],
  getBody: (m) => [m.lane, m.seq],
  resolve: (m) => [m.lane, m.seq],
  body: (m) => [m.lane, m.seq, m.body ?? null],
  askGone: (m) => [m.lane, m.pid],
  gone: (m) => [m.lane, m.pid, m.gone],
  askLane: (m) => [m.lane],
  lane: (m) => [m.lane, m.serving],
  confirm: (m) => [m.lane, m.round, m.pid, m.token],
  confirmed: (m) => [m.lane, m.token, m.yes],
  floor: (m) => [shapes.floor.write(m.floor)],
  resolved: (m) => [m.lane, m.seq, RESOLUTIONS.indexOf(m.resolution)],
  credit: (m) => [m.items.map((i) => [i.session, i.queue, i.total, i.recall]), m.stampMs],
  returned: (m) => [m.session, m.count],
  offer: (m) => [m.queue, m.count],
  deliver: (m) => [
    lists.deliveries.write(m.items),
    m.descriptors.map(([lane, d]) => [lane, shapes.descriptor.write(d)]),
    m.stampMs,
  ],
  held: (m) => [m.items.map(ref)],
  verdicts: (m) => [lists.verdicts.write(m.items), m.stampMs],
  settled: (m) => [lists.settled.write(m.items)],
  manage: (m) => {
    const plain = [m.token, m.queue, ACTS.indexOf(m.act), SCOPES.indexOf(m.scope), place(m.only), m.limit];
    if (m.oldest) return [...plain, place(m.after), true];
    return m.after === undefined ? plain : [...plain, place(m.after)];
  },
  managed: (m) => {
    const { ready, delayed, leased, dead, unserved, oldestWallMs, lanes, weakLanes, movingLanes } = m.counts;
    const counts = [ready, delayed, leased, dead, unserved, oldestWallMs, lanes, weakLanes, movingLanes];
    const items = m.items.map((i) => [i.lane, i.seq, encodeValue(i.value)]);
    const consumers = m.consumers.map((c) => [c.session, c.prefetch, c.held]);
    const plain = [m.token, items, m.count, counts, consumers];
    const isShort = m.groups.length + m.shards.length === 0 && m.last === undefined;
    if (isShort && m.lanes === undefined) return plain;
    const head = (i: ManagedItem): Wire => [i.lane, i.seq, encodeValue(i.value)];
    const groups = m.groups.map((g) => [g.group, g.count, head(g.head)]);
    const last = m.last === undefined && m.lanes === undefined ? [] : [place(m.last)];
    const listed = m.lanes === undefined ? [] : [[m.lanes.served, m.lanes.kept]];
    return [...plain, groups, m.shards, ...last, ...listed];
  },
  enter: (m) => [m.lane, m.items.map((i) => [encodeValue(i.value), i.body])],
  entered: (m) => [m.lane, m.items.map((i) => [i.token, ENTERED.indexOf(i.code), i.seq]), m.hint ?? null],
  usage: (m) => [m.items.map((i) => [i.queue, i.count, i.bytes])],
  askHeir: (m) => [m.lane],
  askMoved: (m) => [m.lane, shapes.descriptor.write(m.descriptor), m.kept, ...(m.ended ? [true] : [])],
  moved: (m) => [m.lane],
  heirs: (m) => [m.descriptors.map(shapes.descriptor.write)],
  inspect: (m) => [m.token, m.lane, m.seq],
  inspected: (m) => [
    m.token,
    m.store,
    m.known,
    m.isWriter,
    m.finished,
    m.promise === undefined ? null : shapes.right.write(m.promise),
    m.register === undefined
      ? null
      : [m.register.seq, shapes.ballot.write(m.register.ballot), encodeValue(m.register.value)],
    m.end === undefined ? null : shapes.endValue.write(m.end),
  ],
};

function writeMessage(message: Message): Wire {
  if (message.type === "synced") throw new CodecError("a message to oneself never travels");
  const write = WRITERS[message.type] as (message: Message) => Wire;
  return [KINDS.indexOf(message.type), ...write(message)];
}

function ref({ lane, seq, epoch, session }: HeldItem): Wire {
  return [lane, seq, epoch, session];
}

function writeSection(s: Section): Wire {
  return [
    s.lane,
    s.descriptor === undefined ? null : shapes.descriptor.write(s.descriptor),
    s.round,
    s.pid,
    lists.accepts.write(s.accepts),
    shapes.ranges.write(s.learned),
    s.end === undefined ? null : [s.end.step, shapes.endValue.write(s.end.value)],
    s.closed === undefined ? null : shapes.endValue.write(s.closed),
  ];
}

function writeException(e: Exception): Wire {
  if ("seq" in e) {
    const ballot = e.ballot === undefined ? null : shapes.ballot.write(e.ballot);
    return [e.section, true, OP_REFUSALS.indexOf(e.code), e.seq, ballot];
  }
  return [
    e.section,
    false,
    LANE_REFUSALS.indexOf(e.code),
    e.promise === undefined ? null : shapes.right.write(e.promise),
    e.end === undefined ? null : shapes.endValue.write(e.end),
  ];
}

// Reading.

const readValue = (f: Fields): Value => decodeValue(f.bytes(VALUE_BYTES_MAX));

const lane = (f: Fields): string => f.hex(shapes.LANE_DIGITS);
const seq = (f: Fields): number => f.uint(SEQ_MAX);
const pid = (f: Fields): string => f.hex(PID_DIGITS);
const queues = (f: Fields): readonly string[] =>
  f.list(QUEUES_MAX, (at) => new Fields([at]).hex(shapes.LANE_DIGITS));

const readDeleted = (f: Fields): readonly Deleted[] =>
  f.list(QUEUES_MAX, (at) => {
    const inner = new Fields(at);
    return [inner.hex(shapes.LANE_DIGITS), inner.uint()];
  });

function pick<T>(f: Fields, names: readonly T[]): T {
  const name = names[f.uint(names.length - 1)];
  if (name === undefined) throw new CodecError("an unknown code");
  return name;
}

const READERS: { readonly [K in Kind]: (f: Fields) => Of<K> } = {
  hello: (f) => ({
    type: "hello",
    store: f.optional((at) => at.hex(shapes.STORE_DIGITS)),
    boot: f.uint(),
    definitions: f.list(QUEUES_MAX, (at) => shapes.definition.read(new Fields([at]))),
    consumes: queues(f),
    floor: f.optional(shapes.floor.read),
    echoes: readEchoes(f),
    deleted: f.optional(readDeleted) ?? [],
  }),
  roster: (f) => ({ type: "roster", consumes: queues(f) }),
  declare: (f) => ({ type: "declare", definition: shapes.definition.read(f) }),
  deleted: (f) => ({ type: "deleted", queues: readDeleted(f) }),
  ops: (f) => ({
    type: "ops",
    session: f.uint(NUMBER_MAX),
    no: f.uint(),
    sections: f.list(SECTIONS_MAX, readSection),
    echoes: readEchoes(f),
  }),
  ok: (f) => ({
    type: "ok",
    session: f.uint(NUMBER_MAX),
    no: f.uint(),
    exceptions: f.list(ITEMS_MAX, readException),
    batchNo: f.uint(),
    proof: f.proof(),
  }),
  credit: (f) => ({ type: "credit", items: f.list(ITEMS_MAX, readCredit), stampMs: f.number() }),
  returned: (f) => ({ type: "returned", session: f.hex(SESSION_DIGITS), count: f.uint() }),
  offer: (f) => ({ type: "offer", queue: lane(f), count: f.uint() }),
  deliver: (f) => ({
    type: "deliver",
    items: lists.deliveries.read(f.raw()),
    descriptors: f.list(ITEMS_MAX, (at) => {
      const inner = new Fields(at);
      return [lane(inner), shapes.descriptor.read(inner)] as const;
    }),
    stampMs: f.number(),
  }),
  held: (f) => ({ type: "held", items: f.list(ITEMS_MAX, (at) => readRef(new Fields(at))) }),
  verdicts: (f) => ({ type: "verdicts", items: lists.verdicts.read(f.raw()), stampMs: f.number() }),
  settled: (f) => ({ type: "settled", items: lists.settled.read(f.raw()) }),
  manage: (f) => ({
    type: "manage",
    token: f.uint(),
    queue: lane(f),
    act: pick(f, ACTS),
    scope: pick(f, SCOPES),
    only: f.optional(readPlace),
    limit: f.uint(),
    after: f.optional(readPlace),
    oldest: f.optional((at) => at.bool()) ?? false,
  }),
  managed: (f) => ({
    type: "managed",
    token: f.uint(),
    items: f.list(MANAGE_ITEMS_MAX, readManaged),
    count: f.uint(),
    counts: readCounts(f.nested()),
    consumers: f.list(MANAGE_ITEMS_MAX, readRoster),
    groups: f.optional((at) => at.list(MANAGE_ITEMS_MAX, readGroup)) ?? [],
    shards:
      f.optional((at) => at.list(shapes.SHARDS_MAX, (no) => new Fields([no]).uint(shapes.SHARDS_MAX))) ?? [],
    last: f.optional(readPlace),
    lanes: f.optional((at) => readListed(at.nested())),
  }),
  enter: (f) => ({ type: "enter", lane: lane(f), items: f.list(ITEMS_MAX, readEnter) }),
  entered: (f) => ({
    type: "entered",
    lane: lane(f),
    items: f.list(ITEMS_MAX, (at) => {
      const inner = new Fields(at);
      return { token: inner.text(TOKEN_MAX), code: pick(inner, ENTERED), seq: seq(inner) };
    }),
    hint: f.optional((field) => field.text(PEER_MAX)),
  }),
  usage: (f) => ({
    type: "usage",
    items: f.list(QUEUES_MAX, (at) => {
      const inner = new Fields(at);
      return { queue: lane(inner), count: inner.uint(), bytes: inner.uint() };
    }),
  }),
  inspect: (f) => ({ type: "inspect", token: f.uint(), lane: lane(f), seq: seq(f) }),
  inspected: (f) => ({
    type: "inspected",
    token: f.uint(),
    store: f.hex(shapes.STORE_DIGITS),
    known: f.bool(),
    isWriter: f.bool(),
    finished: f.bool(),
    promise: f.optional(shapes.right.read),
    register: f.optional((at) => readRegisterFrom(at.nested())),
    end: f.optional(shapes.endValue.read),
  }),
  askHeir: (f) => ({ type: "askHeir", lane: lane(f) }),
  askMoved: (f) => ({
    type: "askMoved",
    lane: lane(f),
    descriptor: shapes.descriptor.read(f),
    kept: f.bool(),
    ended: f.optional((at) => at.bool()) ?? false,
  }),
  moved: (f) => ({ type: "moved", lane: lane(f) }),
  heirs: (f) => ({
    type: "heirs",
    descriptors: f.list(HEIRS_MAX, (at) => shapes.descriptor.read(new Fields([at]))),
  }),
  prepare: (f) => ({
    type: "prepare",
    lane: lane(f),
    descriptor: shapes.descriptor.read(f),
    round: f.uint(ROUND_MAX),
    pid: pid(f),
  }),
  refused: (f) => ({
    type: "refused",
    lane: lane(f),
    round: f.uint(ROUND_MAX),
    promise: f.optional(shapes.right.read),
  }),
  page: (f) => ({
    type: "page",
    lane: lane(f),
    round: f.uint(ROUND_MAX),
    snapshot: f.uint(),
    index: f.uint(),
    last: f.bool(),
    registers: f.list(ITEMS_MAX, readRegister),
    finished: shapes.ranges.read(f),
    end: f.optional((at) => {
      const inner = at.nested();
      return { ballot: shapes.ballot.read(inner), value: shapes.endValue.read(inner) };
    }),
    keys: f.optional((at) => at.list(ITEMS_MAX, readKeys)) ?? [],
    packed: lists.packed.read(f.optional((at) => at.bytes(PACKED_BYTES_MAX)) ?? NO_PACKED),
  }),
  more: (f) => ({ type: "more", lane: lane(f), snapshot: f.uint(), index: f.uint() }),
  closed: (f) => ({ type: "closed", lane: lane(f), end: f.optional(shapes.endValue.read) }),
  getBody: (f) => ({ type: "getBody", lane: lane(f), seq: seq(f) }),
  body: (f) => ({
    type: "body",
    lane: lane(f),
    seq: seq(f),
    body: f.optional((at) => at.bytes(BODY_BYTES_MAX)),
  }),
  askGone: (f) => ({ type: "askGone", lane: lane(f), pid: pid(f) }),
  gone: (f) => ({ type: "gone", lane: lane(f), pid: pid(f), gone: f.bool() }),
  askLane: (f) => ({ type: "askLane", lane: lane(f) }),
  lane: (f) => ({ type: "lane", lane: lane(f), serving: f.bool() }),
  confirm: (f) => ({
    type: "confirm",
    lane: lane(f),
    round: f.uint(ROUND_MAX),
    pid: pid(f),
    token: f.uint(),
  }),
  confirmed: (f) => ({ type: "confirmed", lane: lane(f), token: f.uint(), yes: f.bool() }),
  floor: (f) => ({ type: "floor", floor: shapes.floor.read(f) }),
  resolve: (f) => ({ type: "resolve", lane: lane(f), seq: seq(f) }),
  resolved: (f) => ({ type: "resolved", lane: lane(f), seq: seq(f), resolution: pick(f, RESOLUTIONS) }),
};

function readMessage(f: Fields): Message {
  const read: (f: Fields) => Message = READERS[pick(f, KINDS)];
  return read(f);
}

function readSection(at: unknown): Section {
  const f = new Fields(at);
  return {
    lane: lane(f),
    descriptor: f.optional(shapes.descriptor.read),
    round: f.uint(ROUND_MAX),
    pid: pid(f),
    accepts: lists.accepts.read(f.raw()),
    learned: shapes.ranges.read(f),
    end: f.optional((field) => {
      const inner = field.nested();
      return { step: inner.uint(ROUND_MAX), value: shapes.endValue.read(inner) };
    }),
    closed: f.optional(shapes.endValue.read),
  };
}

function readEnter(at: unknown): EnterItem {
  const f = new Fields(at);
  const item = { value: readValue(f), body: f.bytes(BODY_BYTES_MAX) };
  if (item.value.state !== "READY" || item.value.attributes?.token === undefined) {
    throw new CodecError("what enters is ready and has a token");
  }
  if (bodyHash(item.body) !== item.value.bodyHash) throw new CodecError("a body does not match its hash");
  return item;
}

function readKeys(at: unknown): KeptKeys {
  const f = new Fields(at);
  return { seq: seq(f), keys: shapes.keys.read(f) };
}

function readException(at: unknown): Exception {
  const f = new Fields(at);
  const section = f.uint();
  if (f.bool()) {
    const code = pick(f, OP_REFUSALS);
    return { section, code, seq: f.int(), ballot: f.optional(shapes.ballot.read) };
  }
  return {
    section,
    code: pick(f, LANE_REFUSALS),
    promise: f.optional(shapes.right.read),
    end: f.optional(shapes.endValue.read),
  };
}

function place(at: Place | undefined): Wire | null {
  return at === undefined ? null : [at.lane, at.seq];
}

function readPlace(f: Fields): Place {
  const at = f.nested();
  return { lane: lane(at), seq: seq(at) };
}

function readListed(f: Fields): ListedLanes {
  return {
    served: f.list(LISTED_LANES_MAX, (at) => lane(new Fields([at]))),
    kept: f.list(LISTED_LANES_MAX, (at) => {
      const inner = new Fields(at);
      return [lane(inner), inner.uint()] as const;
    }),
  };
}

function readManaged(at: unknown): ManagedItem {
  return readManagedFrom(new Fields(at));
}

function readManagedFrom(f: Fields): ManagedItem {
  return { lane: lane(f), seq: seq(f), value: readValue(f) };
}

function readGroup(at: unknown): GroupItem {
  const f = new Fields(at);
  return { group: f.text(KEY_MAX), count: f.uint(), head: readManagedFrom(f.nested()) };
}

function readEchoes(f: Fields): Echoes {
  return f.list(shapes.REPLICAS_MAX * 16, (at) => {
    const echo = new Fields(at);
    return [echo.hex(shapes.STORE_DIGITS), echo.uint(), echo.proof()] as const;
  });
}

function readRoster(at: unknown): RosterEntry {
  const f = new Fields(at);
  return { session: f.hex(SESSION_DIGITS), prefetch: f.uint(), held: f.uint() };
}

function readCounts(f: Fields): Counts {
  const [ready, delayed, leased, dead] = [f.uint(), f.uint(), f.uint(), f.uint()];
  const messages = { ready, delayed, leased, dead, unserved: f.uint(), oldestWallMs: f.uint() };
  return { ...messages, lanes: f.uint(), weakLanes: f.uint(), movingLanes: f.uint() };
}

function readRegister(at: unknown): RegisterEntry {
  return readRegisterFrom(new Fields(at));
}

function readRegisterFrom(f: Fields): RegisterEntry {
  return { seq: seq(f), ballot: shapes.ballot.read(f), value: readValue(f) };
}

function readRef(f: Fields): HeldItem {
  return { lane: lane(f), seq: seq(f), epoch: f.uint(), session: f.hex(SESSION_DIGITS) };
}

function readCredit(at: unknown): CreditItem {
  const f = new Fields(at);
  return {
    session: f.hex(SESSION_DIGITS),
    queue: lane(f),
    total: f.int(),
    recall: f.bool(),
  };
}
