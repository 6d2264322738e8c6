import type { QueueCore } from "../../packages/queue/src/core/queue-core.ts";
import { loadMutated } from "./mutated.ts";
import type { HostFlaws, ScenarioPatch } from "./scenario.ts";

/** One rule of the protocol removed: a checker that does not notice is worth nothing. */
export interface Mutant {
  readonly id: string;
  readonly what: string;
  /** The change of the core's source, unless the flaw is its host's. */
  readonly file?: string;
  readonly find?: string;
  readonly replace?: string;
  readonly flaws?: HostFlaws;
  /** Makes the situation that needs the rule come up often enough. */
  readonly patch?: ScenarioPatch;
  /** Getting stuck is how it shows; otherwise only a broken promise about messages counts. */
  readonly stuck?: boolean;
  /** The first seed that `npm test` tries, shortly before the one that catches it today. Default 1. */
  readonly from?: number;
  /** Seeds within which it has to be caught. */
  readonly seeds: number;
}

/** Runs of an ordered queue. */
const ORDER: ScenarioPatch = {
  nodes: 3,
  replicas: 3,
  shards: 1,
  groups: 2,
  keys: 10,
  dedupMs: 60_000,
  wallSkewMs: 0,
};

const LOSSES: ScenarioPatch["faults"] = {
  tail: 0,
  loss: 800,
  falseDeath: 300,
  crash: 1_000,
  partition: 1_500,
};

/** Stores that are lost for good while their lanes hold messages, and writers that are taken for dead meanwhile. */
const MOVING: ScenarioPatch = {
  nodes: 4,
  replicas: 3,
  shards: 0,
  messages: 40,
  enqueueMs: 20,
  faults: LOSSES,
  tuning: { heirLookMs: 20, stealDelayMs: 10, prepareRetryMs: 20, laneMessages: 8 },
};

/** Stores are lost, and members taken for dead, faster than lanes move. */
export const HARD_MOVES: ScenarioPatch = {
  nodes: 5,
  replicas: 3,
  messages: 60,
  enqueueMs: 20,
  groups: 2,
  keys: 5,
  dedupMs: 60_000,
  faults: LOSSES,
  tuning: { heirLookMs: 20, stealDelayMs: 10, prepareRetryMs: 20, heirDeadMs: 300 },
};

const ORDER_MOVING: ScenarioPatch = { ...HARD_MOVES, shards: 1, wallSkewMs: 0 };

/** Disks that lose their end, while others are away. */
const CUT: ScenarioPatch = {
  nodes: 3,
  replicas: 3,
  messages: 40,
  enqueueMs: 20,
  shards: 0,
  faults: { tail: 300, loss: 0, crash: 800, partition: 600 },
  tuning: { stealDelayMs: 10, prepareRetryMs: 20 },
};

/** Somebody lists the queue while its lanes go from one writer to another. */
const WALKED: ScenarioPatch = {
  nodes: 3,
  replicas: 3,
  messages: 40,
  walkMs: 50,
  faults: { crash: 800, falseDeath: 500 },
};

/** The queue is deleted while members come and go, and lanes go a record at a time. */
const DELETED: ScenarioPatch = {
  deletes: true,
  nodes: 3,
  replicas: 3,
  messages: 40,
  faults: { crash: 600, partition: 800 },
  tuning: { dropRecords: 1 },
};

export const MUTANTS: readonly Mutant[] = [
  {
    id: "M1",
    what: "a store forgets everything and keeps its id",
    flaws: { amnesia: true },
    seeds: 200,
  },
  {
    id: "M2",
    what: "a step is used again after a time-out",
    file: "lane-writer.ts",
    find: "    this.#propose(register, superseded(register.value));",
    replace: "    register.step -= 1;\n    this.#propose(register, superseded(register.value));",
    seeds: 200,
  },
  {
    id: "M3",
    what: "finished bits are not kept",
    file: "acceptor.ts",
    find: "if (lane.finished.add(seq)) this.#drop(lane, seq);",
    replace: "this.#drop(lane, seq);",
    seeds: 200,
  },
  {
    id: "M4",
    what: "old rounds are not fenced",
    file: "acceptor.ts",
    find: 'if (comparePromises(right, lane.promise) < 0) return refuse("REFUSED", lane.promise);',
    replace: "",
    patch: { nodes: 3, replicas: 3, faults: { falseDeath: 400, partition: 1_000 } },
    seeds: 300,
  },
  {
    id: "M5",
    what: "a superseded proposal is reported as granted",
    file: "lane-writer.ts",
    find: "if (step !== register.step || register.chosen) {",
    replace: "if (register.chosen) {",
    seeds: 200,
  },
  { id: "M6", what: "a proposer id is used again after a restart", flaws: { samePid: true }, seeds: 200 },
  {
    id: "M7",
    what: "END is proposed over values that are not chosen",
    file: "lane-end.ts",
    find: "    if (awaited > 0) return undefined;\n",
    replace: "",
    patch: { nodes: 3, replicas: 3, faults: { falseDeath: 400, partition: 1_000 } },
    from: 60,
    seeds: 300,
  },
  {
    id: "M8",
    what: "resolve answers before END is chosen",
    file: "lanes.ts",
    find: 'if (writer.right.round > 0) return "PENDING";',
    replace: 'if (writer.right.round > 0) return writer.registers.has(seq) ? "ACKED" : "NEVER";',
    patch: { nodes: 3, replicas: 3, enqueueDeadlineMs: 300, faults: { falseDeath: 400, partition: 1_000 } },
    seeds: 300,
  },
  {
    id: "M9",
    what: "a later stealer ignores the END it sees",
    file: "snapshots.ts",
    find: "return { right, found, whole, finished: finished.ranges(), nextSeq, end: end?.value, keys: kept };",
    replace:
      "return { right, found, whole, finished: finished.ranges(), nextSeq, end: undefined, keys: kept };",
    patch: { nodes: 3, replicas: 3, faults: { falseDeath: 200, partition: 1_000, crash: 1_000 } },
    seeds: 300,
  },
  {
    id: "M12",
    what: "the floor is announced before lanes are closed",
    file: "origin.ts",
    find: "return known.closed && this.#context.now.monoMs - known.closedMs >= resolveMs;",
    replace: "return known.closed ? resolveMs > 0 : this.#lanes.get(lane) === undefined;",
    patch: { nodes: 3, replicas: 3, faults: { falseDeath: 400, partition: 1_000 } },
    seeds: 400,
  },
  {
    id: "M13",
    what: "a closed lane is forgotten without a floor",
    file: "acceptor.ts",
    find: "    this.#events.closed(lane);\n",
    replace:
      "    this.#events.closed(lane);\n    this.#lanes.delete(lane.lane);\n    this.#context.persist(keyOf.lane(lane.slot), undefined);\n",
    seeds: 400,
  },
  {
    id: "M14",
    what: "pages of two snapshots are mixed",
    file: "acceptor.ts",
    find: "const { lane, round, registers, seqs, finished, end } = snapshot;",
    replace: `const { lane, round, finished, end } = snapshot;
    const registers = this.#lanes.get(lane)?.registers ?? snapshot.registers;
    const seqs = [...registers.keys()];`,
    // Long transfers that start over while the old writer's LEARN still arrives, at a lagging stealer.
    patch: {
      nodes: 3,
      replicas: 3,
      messages: 150,
      enqueueMs: 30,
      chaosMs: 3_000,
      leaseMs: 3_000,
      handleMs: 100,
      hang: 0,
      nack: 0,
      release: 0,
      reject: 0,
      consumersMax: 6,
      prefetchMax: 20,
      delayMs: 1,
      slowest: 300,
      jitterMs: 0,
      syncMs: 1,
      faults: { falseDeath: 300, oneWay: 5_000, reset: 0, crash: 0, stall: 0, partition: 0 },
      tuning: {
        pageRegisters: 1,
        prepareRetryMs: 20,
        prepareRetryMaxMs: 500,
        stealDelayMs: 10,
        learnDelayMs: 20,
        learnSeqs: 256,
        laneMessages: 65_536,
        windowOps: 4_096,
        windowBytes: 8 * 1_024 * 1_024,
        frameBytes: 256 * 1_024,
      },
    },
    from: 206,
    seeds: 400,
  },
  {
    id: "M15",
    what: "PREPARE is answered before its promise is on disk",
    flaws: { earlyPages: true },
    patch: { nodes: 3, replicas: 3, syncMs: 80, faults: { crash: 400, falseDeath: 500 } },
    seeds: 400,
  },
  {
    id: "M16",
    what: "an OK covers an operation that was refused",
    file: "acceptor.ts",
    find: 'if (comparePromises(right, lane.promise) < 0) return refuse("REFUSED", lane.promise);',
    replace: "if (comparePromises(right, lane.promise) < 0) return;",
    patch: { nodes: 3, replicas: 3, faults: { falseDeath: 400, partition: 1_000 } },
    seeds: 300,
  },
  {
    id: "M17",
    what: "a superseding READY gives the epoch back",
    file: "register.ts",
    find: "export function superseded(value: Value, dueWallMs?: number): Value {",
    replace:
      "export function superseded(value: Value, dueWallMs?: number): Value {\n  value = { ...value, epoch: value.epoch - 1 };",
    seeds: 200,
  },
  {
    id: "M10",
    what: "an heir hands out messages before its END is chosen",
    file: "lane-end.ts",
    find: "return this.#isHeir && !this.#wasChosen;",
    replace: "return this.#isHeir && !this.#wasChosen && this.#copied === undefined;",
    patch: MOVING,
    seeds: 200,
  },
  {
    id: "M11",
    what: "a stealer proposes in a frozen lane",
    file: "lane-writer.ts",
    find: "if (end?.heir !== undefined) {",
    replace: "if (end?.heir !== undefined && this.#lost) {",
    patch: MOVING,
    from: 56,
    seeds: 400,
  },
  {
    id: "M18",
    what: "a stealer ends a half-imported heir",
    file: "lane-end.ts",
    find: "    if (value === undefined && this.#isHeir) return this.#copied;\n",
    replace: "",
    patch: MOVING,
    seeds: 400,
  },
  {
    id: "D1",
    what: "a store goes on although others counted on more than it has",
    flaws: { deafToEcho: true },
    patch: CUT,
    seeds: 400,
  },
  {
    id: "H1",
    what: "a frozen lane closes before its heir has everything",
    file: "lane-end.ts",
    find: "return this.#isMoved ? { ...value, closed: true } : undefined;",
    replace: "return { ...value, closed: true };",
    patch: MOVING,
    seeds: 200,
  },
  {
    id: "H2",
    what: "the floor passes an heir that is only planned",
    file: "origin.ts",
    find: "    this.#acceptor.open(lane, descriptor);\n    this.#context.sendAfter",
    replace: "    this.#context.sendAfter",
    patch: MOVING,
    seeds: 400,
  },
  {
    id: "F1",
    what: "a superseded lease loses the message's attributes",
    file: "register.ts",
    find: "state: unheld(value), holder: undefined, notBeforeWallMs: due };",
    replace: "state: unheld(value), holder: undefined, notBeforeWallMs: due, attributes: undefined };",
    patch: { attributed: 1 },
    seeds: 200,
  },
  {
    id: "F2",
    what: "one wrong clock decides when a message is due",
    file: "acceptor.ts",
    find: "earliestWallMs(value) > this.#context.now.wallMs + this.#context.tuning.clockSlackMs",
    replace: "earliestWallMs(value) < 0",
    patch: { nodes: 3, replicas: 3, attributed: 1, wrongClockMs: 20_000, wallSkewMs: 50 },
    seeds: 200,
  },
  {
    id: "F3",
    what: "what was leased as dead comes back alive when it is given back",
    file: "register.ts",
    find: 'return reason === undefined ? "READY" : "DEAD";',
    replace: 'return "READY";',
    patch: { maxDeliveries: 3, reject: 0.3, release: 0.3, undertaking: 0.5, consumersMax: 6 },
    seeds: 200,
  },
  {
    id: "F4",
    what: "a redrive is not one step of the message but forgets its history",
    file: "register.ts",
    find: "redrives: redrives + 1, forgiven",
    replace: "redrives, forgiven",
    patch: { maxDeliveries: 3, reject: 0.3, operateMs: 300 },
    seeds: 200,
  },
  {
    id: "F5",
    what: "what a lost lane held is counted for ever",
    file: "quota.ts",
    find: "    this.#all.count -= this.#own.count;\n",
    replace: "",
    stuck: true,
    patch: { nodes: 3, replicas: 3, maxLength: 4, faults: { falseDeath: 400 } },
    seeds: 100,
  },
  {
    id: "F6",
    what: "a queue that is resumed does not go on",
    file: "dispatch.ts",
    find: "else if (this.#paused.delete(queue)) this.wake([queue]);",
    replace: "else this.#paused.delete(queue);",
    stuck: true,
    patch: { nodes: 1, operateMs: 300, rosterMs: 0, consumersMax: 6, faults: { crash: 0, commitFailure: 0 } },
    seeds: 300,
  },
  {
    id: "F7",
    what: "a message whose clock was set back is forgotten",
    file: "dispatch.ts",
    find: "        // A clock that was set back: its time has still to come.\n        lane.reconsider(seq);\n",
    replace: "",
    stuck: true,
    patch: {
      nodes: 1,
      attributed: 1,
      operateMs: 50,
      wrongClockMs: 1,
      consumersMax: 1,
      prefetchMax: 1,
      faults: { crash: 0 },
    },
    seeds: 300,
  },
  {
    id: "O1",
    what: "an ordered lane is appended to before its cut is chosen",
    file: "lane-writer.ts",
    find: "    if (next !== undefined) this.#proposeEnd(next);\n",
    replace: `    if (next !== undefined) {
      this.#proposeEnd(next);
      if (this.order !== undefined) this.#openUp(next);
    }
`,
    patch: { ...ORDER, faults: { falseDeath: 300, partition: 1_000 } },
    seeds: 400,
  },
  {
    id: "O2",
    what: "keys die with LEARN",
    file: "acceptor.ts",
    find: '    this.#write(lane, keyOf.keys(lane.slot, seq), { kind: "keys", keys });\n    this.#keep(lane, seq, keys);\n',
    replace: "",
    patch: { ...ORDER, keys: 3, dedupMs: 60_000, faults: { crash: 500 } },
    from: 28,
    seeds: 200,
  },
  {
    id: "O3",
    what: "a message is handed out although others of its group come before it",
    file: "lane-order.ts",
    find: "return line === undefined || (line.first === seq && (line.flying ?? seq) === seq);",
    replace: "return true;",
    patch: ORDER,
    seeds: 100,
  },
  {
    id: "O4",
    what: "whoever takes a lane over leaves the keys of finished messages behind",
    file: "snapshots.ts",
    find: "return { ...read, finished, nextSeq: n,",
    replace: "return { ...read, keys: [], finished, nextSeq: n,",
    patch: { ...ORDER, keys: 3, dedupMs: 60_000, faults: { falseDeath: 500 } },
    seeds: 200,
  },
  {
    id: "O5",
    what: "a seq that an earlier writer gave away is given to another message",
    file: "snapshots.ts",
    find: "nextSeq + appendWindow",
    replace: "nextSeq",
    patch: {
      ...ORDER,
      enqueueDeadlineMs: 300,
      faults: { falseDeath: 300, partition: 700 },
      tuning: { appendWindow: 10 },
    },
    from: 35,
    seeds: 2_000,
  },
  {
    id: "O6",
    what: "what a cut excluded comes back when its lane is taken over again",
    file: "snapshots.ts",
    find: "return !isOrdered || comparePromises(ballot, end.ballot) < 0;",
    replace: "return !isOrdered;",
    patch: { ...ORDER, faults: { falseDeath: 300, partition: 700 } },
    from: 1_086,
    seeds: 2_000,
  },
  {
    id: "O7",
    what: "a duplicate is answered before the first is chosen",
    file: "entrance.ts",
    find: "if (askers === undefined) return",
    replace: "return",
    patch: { ...ORDER, keys: 3, dedupMs: 60_000, enqueueMs: 2 },
    seeds: 200,
  },
  {
    id: "O8",
    what: "an enqueue that is asked again is taken for another",
    file: "lane-order.ts",
    find: "if (same !== undefined) return",
    replace: "if (same !== undefined && same.seq < 0) return",
    patch: { ...ORDER, keys: 0, faults: { reset: 200, crash: 800 } },
    seeds: 200,
  },
  {
    id: "O9",
    what: "messages of one group are under way side by side",
    file: "entry.ts",
    find: "if (behind !== undefined) return void behind.items.add(item);",
    replace: "",
    patch: { ...ORDER, groups: 1, enqueueMs: 2, faults: { falseDeath: 300, reset: 200 } },
    from: 683,
    seeds: 1_000,
  },
  {
    id: "O10",
    what: "a message that was put back overtakes one of its group that is held",
    file: "lane-order.ts",
    find: "(line.flying ?? seq) === seq",
    replace: "seq >= 0",
    patch: { ...ORDER, groups: 1, maxDeliveries: 3, reject: 0.3, operateMs: 300 },
    seeds: 300,
  },
  {
    id: "O11",
    what: "what never existed leaves its key",
    file: "snapshots.ts",
    find: "never(seq) ? [] : ",
    replace: "",
    patch: {
      ...ORDER,
      messages: 150,
      enqueueDeadlineMs: 300,
      faults: { falseDeath: 200, partition: 500, reset: 300 },
    },
    seeds: 2_000,
  },
  {
    id: "O12",
    what: "keys of finished messages do not go with their lane",
    file: "lane-writer.ts",
    find: "kept: kept.values() };",
    replace: "kept: kept.slice(0, 0).values() };",
    patch: ORDER_MOVING,
    from: 167,
    seeds: 300,
  },
  {
    id: "O13",
    what: "what an heir did not import never existed",
    file: "snapshots.ts",
    find: "const base = end?.base ?? 0;",
    replace: "const base = 0;",
    patch: ORDER_MOVING,
    from: 704,
    seeds: 300,
  },
  {
    id: "O14",
    what: "whoever takes over an ordered lane that has an heir goes on in it",
    file: "snapshots.ts",
    find: "shard !== undefined && end?.heir === undefined && (heirOf",
    replace: "shard !== undefined && (heirOf",
    patch: ORDER_MOVING,
    seeds: 300,
  },
  {
    id: "O15",
    what: "an ordered lane names its heir while messages are under way",
    file: "lane-end.ts",
    find: "if (this.#planned === undefined || unchosen > 0) return undefined;",
    replace: "if (this.#planned === undefined || (unchosen > 0 && !this.#isOrdered)) return undefined;",
    patch: ORDER_MOVING,
    seeds: 300,
  },
  {
    id: "O16",
    what: "an ordered heir serves before all keys are there",
    file: "lane-writer.ts",
    find: "    this.#importKeys(this.#importing);\n  }\n",
    replace: "    this.#importKeys(this.#importing);\n    this.#endImport(end);\n  }\n",
    patch: { ...ORDER_MOVING, tuning: { ...ORDER_MOVING.tuning, importKeys: 1 } },
    from: 550,
    seeds: 1_000,
  },
  {
    id: "V1",
    what: "a replica whose hook refuses a lease counts as if it had it",
    file: "acceptor.ts",
    find: '      exceptions.push({ section, seq, code: "VETO", ballot: undefined });',
    replace: "      return;",
    patch: { veto: 0.3 },
    seeds: 200,
  },
  {
    id: "X1",
    what: "a deleted queue is declared again by who has not heard of it",
    file: "definitions.ts",
    find: "if (this.#known.has(queue) || this.isDeleted(queue)) return false;",
    replace: "if (this.#known.has(queue)) return false;",
    patch: DELETED,
    seeds: 200,
  },
  {
    id: "X2",
    what: "what is left of a lane that is being dropped counts as damage",
    file: "acceptor.ts",
    find: "const isDropped = lane.closed || this.#context.isDeleted(lane.descriptor.queue);",
    replace: "const isDropped = false;",
    patch: DELETED,
    seeds: 200,
  },
  {
    id: "X3",
    what: "a hello does not say which queues were deleted",
    file: "queue-core.ts",
    find: "      deleted: this.definitions.deleted(),",
    replace: "      deleted: [],",
    patch: DELETED,
    from: 420,
    seeds: 400,
  },
  {
    id: "X4",
    what: "a lane of a deleted queue is kept once more",
    file: "acceptor.ts",
    find: "if (this.isBelowFloor(descriptor) || this.#context.isDeleted(descriptor.queue)) {",
    replace: "if (this.isBelowFloor(descriptor)) {",
    patch: DELETED,
    from: 390,
    seeds: 600,
  },
  {
    id: "X5",
    what: "a store that was opened while it dropped lanes keeps the rest",
    file: "queue-core.ts",
    find: "    this.origin.load(records);\n    this.acceptor.dropDeleted();",
    replace: "    this.origin.load(records);",
    patch: DELETED,
    seeds: 200,
  },
  {
    id: "X6",
    what: "enqueues in lanes of a deleted queue are not answered",
    file: "origin.ts",
    find: "if (enqueue !== undefined) tell(enqueue as Waiting);",
    replace: "void enqueue;",
    patch: DELETED,
    seeds: 200,
  },
  {
    id: "X7",
    what: "what consumers of a deleted queue hold stays in their hands",
    file: "consumers.ts",
    find: 'if (gone.has(one.session)) this.#drop(one, "STALE");',
    replace: "void one;",
    patch: DELETED,
    seeds: 200,
  },
  {
    id: "L1",
    what: "a list passes over messages whose next step is under way",
    file: "manage.ts",
    find: 'if (register.chosen || (act === "list" && isThere(register)))',
    replace: "if (register.chosen)",
    patch: WALKED,
    seeds: 100,
  },
  {
    id: "L2",
    what: "who is asked for a list does not tell of lanes that its store keeps and others write",
    file: "manage.ts",
    find: "kept.push([descriptor.heirOf?.root ?? lane, registers.size]);",
    replace: "void lane;",
    patch: WALKED,
    seeds: 100,
  },
  {
    id: "L3",
    what: "who stole a lane that has an heir tells as if it knew what is in that",
    file: "manage.ts",
    find: "if (this.#acceptor.newest(root)?.lane !== lane) return false;",
    replace: "if (!course.isImporting && !course.isMoved) return true;",
    patch: { ...ORDER_MOVING, walkMs: 60 },
    from: 505,
    seeds: 500,
  },
];

/** What a mutant's runs are without, unless it says so: a rule of flow 6 needs no dead letters to be missed. */
const PLAIN: ScenarioPatch = {
  alters: false,
  attributed: 0,
  wrongClockMs: 0,
  undertaking: 0,
  operateMs: 0,
  maxLength: 0,
  shards: 0,
};

export function patchOf({ patch }: Mutant): ScenarioPatch {
  return { ...PLAIN, ...patch };
}

const LIVENESS: readonly string[] = ["DRAINS", "FORGETS"];

/** Whether breaking `rule` is what this mutant is expected to do. */
export function isCaughtBy(mutant: Mutant, rule: string): boolean {
  return mutant.stuck === true || !LIVENESS.includes(rule);
}

/** The mutant's core, or the real one where only its host is flawed. */
export async function loadMutant(mutant: Mutant): Promise<typeof QueueCore | undefined> {
  const { id, file, find, replace } = mutant;
  if (file === undefined || find === undefined || replace === undefined) return undefined;
  const edits = [{ file, find, replace }];
  const loaded = await loadMutated({ of: "queue", name: id, edits, module: "queue-core.ts" });
  return loaded["QueueCore"] as typeof QueueCore;
}
