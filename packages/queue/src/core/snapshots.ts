import type { AcceptorLane } from "./acceptor.ts";
import type { Ballot, Right } from "./ballot.ts";
import { compareBallots, comparePromises } from "./ballot.ts";
import { FinishedSet, gapsBelow, merged, without } from "./finished.ts";
import { keysOf } from "./lane-order.ts";
import type { FoundPages, Recovered, RecoveredRegister } from "./lane-register.ts";
import { newestVoids } from "./ordered.ts";
import { isIn, isVoid } from "./register.ts";
import type { RegisterTable } from "./register-table.ts";
import type { Descriptor, EndValue, Keys, Ranges } from "./types.ts";

/*
 * Flow 6: what the snapshots of q replicas say of a lane, for the writer that takes it over.
 */

/** What a lane's writer found, and by which right it may go by it. */
interface Found extends Recovered {
  readonly right: Right;
}

/** What one replica has of a lane. */
export interface Snapshot {
  readonly registers: RegisterTable;
  readonly finished: Ranges;
  readonly end: { readonly ballot: Ballot; readonly value: EndValue } | undefined;
  readonly keys: ReadonlyMap<number, Keys>;
}

/** What one replica said, by its place among the lane's. */
type IndexedAnswer = readonly [index: number, answer: Snapshot];

/** Every seq that one of them has, once, ascending; but none of pages that are to be left out. */
function seqsOf(tables: readonly RegisterTable[], without: ReadonlySet<number>): Float64Array {
  const all = new Float64Array(tables.reduce((sum, { size }) => sum + size, 0));
  let count = 0;
  for (const table of tables) {
    for (const seq of table.keys(without)) {
      all[count] = seq;
      count += 1;
    }
  }
  const sorted = all.subarray(0, count).sort();
  let kept = 0;
  for (const seq of sorted) {
    if (kept > 0 && all[kept - 1] === seq) continue;
    all[kept] = seq;
    kept += 1;
  }
  return all.subarray(0, kept);
}

/**
 * Pages of a backlog: all replicas that answered, and this node's own store, have the same registers there, and none
 * of them is finished or excluded by END. `heldBy` has those that did not answer as well: almost always they have the bodies, and who
 * has not says NEED_BODY.
 */
function samePages(
  answers: readonly IndexedAnswer[],
  { registers: own, descriptor: { replicas } }: AcceptorLane,
  isOver: (seq: number) => boolean,
): FoundPages {
  const heldBy = 2 ** replicas.length - 1;
  const [, first] = answers[0] ?? [];
  if (first === undefined) return { registers: own, pages: [], heldBy };
  const pages: number[] = [];
  for (const no of first.registers.fullPages()) {
    const isSame = answers.every(
      ([, { registers }]) => registers === first.registers || registers.hasSamePage(no, first.registers),
    );
    if (!isSame || !own.hasSamePage(no, first.registers)) continue;
    const from = no * own.pageSeqs;
    let seq = from;
    while (seq < from + own.pageSeqs && !isOver(seq)) seq += 1;
    if (seq === from + own.pageSeqs) pages.push(no);
  }
  return { registers: first.registers, pages, heldBy };
}

interface Newest {
  readonly ballot: Ballot | undefined;
  /** Where it is. */
  readonly registers: RegisterTable | undefined;
  /** How many have it at this ballot. */
  readonly same: number;
  readonly heldBy: number;
}

/**
 * The highest ballot of one register. `cut`: whoever made it had proposed again each lease that could have been chosen
 * before, so one of a lower right that is still there never was.
 */
function newestOf(answers: readonly IndexedAnswer[], seq: number, cut?: Right): Newest {
  let ballot: Ballot | undefined;
  let registers: RegisterTable | undefined;
  let same = 0;
  let heldBy = 0;
  for (const [index, answer] of answers) {
    const other = answer.registers.ballotOf(seq);
    if (other === undefined) continue;
    if (!answer.registers.isDone(seq)) heldBy |= 1 << index;
    if (cut !== undefined && comparePromises(other, cut) < 0 && isLeased(answer.registers, seq)) continue;
    const order = ballot === undefined ? 1 : compareBallots(other, ballot);
    if (order > 0) {
      ballot = other;
      ({ registers } = answer);
      same = 1;
    } else if (order === 0) same += 1;
  }
  return { ballot, registers, same, heldBy };
}

function isLeased(registers: RegisterTable, seq: number): boolean {
  return registers.get(seq)?.value.state === "LEASED";
}

/** The highest ballot per register, finished seqs dropped; what END excludes never existed [M9]. */
export function recover(right: Right, answers: readonly IndexedAnswer[], lane: AcceptorLane): Found {
  const isOrdered = lane.descriptor.shard !== undefined;
  const finished = new FinishedSet();
  let nextSeq = 0;
  let end: Snapshot["end"];
  for (const [, answer] of answers) {
    finished.addRanges(answer.finished);
    for (const [, to] of answer.finished) nextSeq = Math.max(nextSeq, to);
    if (
      answer.end !== undefined &&
      (end === undefined || compareBallots(answer.end.ballot, end.ballot) > 0)
    ) {
      end = answer.end;
    }
  }
  const { heirOf } = lane.descriptor;
  // What has an heir, or is one, says of each message whether it was found.
  const isPlain = !isOrdered && heirOf === undefined && end?.value.heir === undefined;
  const isOver = (seq: number): boolean => finished.has(seq) || (end !== undefined && isVoid(end.value, seq));
  const whole = samePages(isPlain ? answers : [], lane, isOver);
  for (const no of whole.pages) nextSeq = Math.max(nextSeq, (no + 1) * lane.registers.pageSeqs);
  const tables = answers.map(([, answer]) => answer.registers);
  const seqs = seqsOf(tables, new Set(whole.pages));
  nextSeq = Math.max(nextSeq, (seqs.at(-1) ?? -1) + 1);
  if (!isOrdered && end !== undefined && isRefuted(end, finished.ranges(), seqs, answers)) end = undefined;
  const isFrozen = end?.value.heir !== undefined;
  const lastCut = isOrdered && end !== undefined ? cutterOf(end) : undefined;
  const found: RecoveredRegister[] = [];
  const known = new Map(answers.flatMap(([, answer]) => [...answer.keys]));
  for (const seq of seqs) {
    const isFinished = finished.has(seq);
    if (isFinished && !isOrdered) continue;
    const newest = newestOf(answers, seq, lastCut);
    const { ballot, registers, same, heldBy } = newest.ballot === undefined ? newestOf(answers, seq) : newest;
    const value = registers?.get(seq)?.value;
    if (ballot === undefined || value === undefined || isExcluded(end, seq, ballot, isOrdered)) continue;
    // Whoever comes next could find an older writer's word on a lease instead: this one's has to be higher.
    const proven = same >= answers.length && (value.state !== "LEASED" || isFrozen);
    if (!isFinished) found.push({ seq, value, heldBy, proven });
    else if (!known.has(seq)) {
      // Who learnt that it is finished never had it, and who has it did not learn that: its key counts all the same.
      const keys = keysOf(value);
      if (keys !== undefined) known.set(seq, keys);
    }
  }
  if (end !== undefined) {
    const isOver = !isOrdered || end.value.heir !== undefined;
    nextSeq = isOver ? end.value.n : Math.max(nextSeq, end.value.n);
  }
  // Of what never was, a store may have learnt that it is over.
  const voids = end?.value.voids ?? [];
  const never = (seq: number): boolean => isIn(voids, seq) || (isFrozen && seq >= nextSeq);
  const kept = [...known].flatMap(([seq, keys]) => (never(seq) ? [] : [{ seq, keys }]));
  return { right, found, whole, finished: finished.ranges(), nextSeq, end: end?.value, keys: kept };
}

/** Whose cut this END is: whoever takes over a frozen lane adopts it. */
function cutterOf({ ballot, value }: NonNullable<Snapshot["end"]>): Right | undefined {
  return value.heir === undefined ? ballot : value.frozenBy;
}

/**
 * Whether END says that this register never came to be. In an ordered lane END is the cut of one writer: it tells of
 * what lower rights wrote, and its word is true even if it was never chosen, for that writer's prepare stopped them.
 */
function isExcluded(end: Snapshot["end"], seq: number, ballot: Ballot, isOrdered: boolean): boolean {
  if (end === undefined || !isVoid(end.value, seq)) return false;
  return !isOrdered || comparePromises(ballot, end.ballot) < 0;
}

/**
 * An ordered lane goes on: its new writer says which seqs below its own first one never existed. It begins so far
 * above all it found that no earlier writer can have given one of its seqs to another message; and where no cut
 * was ever made, none was given at all. What an heir did not import was finished in the lane before.
 */
export function cut(read: Found, appendWindow: number): Found {
  const { found, nextSeq, end } = read;
  const n = end === undefined ? nextSeq : nextSeq + appendWindow;
  const present = found.map(({ seq }) => seq);
  const known = without(end?.voids ?? [], present);
  const base = end?.base ?? 0;
  const before = without(gapsBelow(base, merged([...read.finished, ...known])), present);
  const finished = merged([...read.finished, ...before]);
  const fresh = without(gapsBelow(n, finished), present);
  const voids = merged([...newestVoids(known), ...fresh]);
  const own = { n, voids, closed: false, ...(end?.base === undefined ? {} : { base }) };
  return { ...read, finished, nextSeq: n, end: own };
}

/** An ordered lane that has an heir is over, and one that is an heir begins with what it imports. */
export function makesCut({ shard, heirOf }: Descriptor, end: EndValue | undefined): boolean {
  return shard !== undefined && end?.heir === undefined && (heirOf === undefined || end !== undefined);
}

/**
 * Whether an END cannot have been chosen: a message it excludes is finished, or was written by a higher
 * right than END's. That writer's quorum would have shown it a chosen END. An END only one stealer ever
 * proposed may exclude what the next one found and made chosen; to adopt it would lose those messages.
 */
function isRefuted(
  end: { readonly ballot: Ballot; readonly value: EndValue },
  finished: Ranges,
  seqs: Float64Array,
  answers: readonly IndexedAnswer[],
): boolean {
  const { n, voids } = end.value;
  for (const [from, to] of finished) {
    if (to > n || voids.some(([start, stop]) => start < to && from < stop)) return true;
  }
  for (const seq of seqs) {
    if (!isVoid(end.value, seq)) continue;
    const { ballot } = newestOf(answers, seq);
    if (ballot !== undefined && comparePromises(ballot, end.ballot) > 0) return true;
  }
  return false;
}
