import type { Right } from "./ballot.ts";
import type { RecoveredRegister, Register } from "./lane-register.ts";
import { restingRegister } from "./lane-register.ts";
import { isPlain } from "./register.ts";
import type { RegisterTable, StoredRegister } from "./register-table.ts";
import { isAt } from "./register-table.ts";
import type { Value } from "./types.ts";

/** Messages in one page. */
const PAGE_SEQS = 1_024;
/** Neighbouring places of which it is known how many are awake. A list looks at each of them, and of a long stream one in thousands is dead. */
const BLOCK_SEQS = 64;
const STEP_MAX = 0x7fff_ffff;

/** What a writer knows of resting messages with neighbouring seqs; held by nobody means that none rests there. */
class Page {
  count = 0;
  readonly heldBy = new Uint16Array(PAGE_SEQS);
  readonly steps = new Int32Array(PAGE_SEQS);
}

/** What the registers of a lane's writer stand on. */
export interface WriterRegistersInit {
  readonly right: Right;
  /** As many stay as they are before any rests. */
  readonly looseMax: number;
  /** What this node's own store has accepted: it holds the value of a resting message. */
  stored(): RegisterTable | undefined;
  /** A resting message's value is not in the store any more: another writer changed it. */
  onMissing(): void;
}

/**
 * The messages of a lane as its writer sees them. Those that wait for a consumer, with nothing under way, *rest*:
 * the writer keeps 6 bytes of each, and the value is the one its own store has packed.
 */
export class WriterRegisters {
  readonly #init: WriterRegistersInit;
  readonly #awake = new Map<number, Register>();
  /** How many of them each block has. Long lists are asked for in parts: each would put all of them in order once more. */
  readonly #awakeIn = new Map<number, number>();
  readonly #pages = new Map<number, Page>();
  #resting = 0;

  constructor(init: WriterRegistersInit) {
    this.#init = init;
  }

  get size(): number {
    return this.#awake.size + this.#resting;
  }

  get restingCount(): number {
    return this.#resting;
  }

  has(seq: number): boolean {
    return this.#awake.has(seq) || this.rests(seq);
  }

  rests(seq: number): boolean {
    const page = this.#resting === 0 ? undefined : this.#pages.get(Math.floor(seq / PAGE_SEQS));
    return page !== undefined && page.heldBy[seq % PAGE_SEQS] !== 0;
  }

  /** The message, awake from now on: for whoever is going to change it. */
  get(seq: number): Register | undefined {
    const awake = this.#awake.get(seq);
    if (awake !== undefined || !this.rests(seq)) return awake;
    const register = this.peek(seq);
    if (register === undefined) {
      this.#init.onMissing();
      return undefined;
    }
    this.#forget(seq);
    this.add(register);
    return register;
  }

  /** The message to be looked at; what is changed in a resting one is lost. */
  peek(seq: number): Register | undefined {
    const awake = this.#awake.get(seq);
    if (awake !== undefined) return awake;
    const page = this.#resting === 0 ? undefined : this.#pages.get(Math.floor(seq / PAGE_SEQS));
    const heldBy = page?.heldBy[seq % PAGE_SEQS] ?? 0;
    const step = page?.steps[seq % PAGE_SEQS] ?? 0;
    if (heldBy === 0) return undefined;
    const stored = this.#init.stored()?.get(seq);
    if (stored === undefined || !this.#isOwn(stored, step)) return undefined;
    return restingRegister(seq, stored.value, step, heldBy);
  }

  add(register: Register): void {
    const { seq } = register;
    if (!this.#awake.has(seq)) this.#countAwake(seq, 1);
    this.#awake.set(seq, register);
  }

  delete(seq: number): void {
    if (this.#awake.delete(seq)) this.#countAwake(seq, -1);
    else if (this.rests(seq)) this.#forget(seq);
  }

  #countAwake(seq: number, change: 1 | -1): void {
    const block = Math.floor(seq / BLOCK_SEQS);
    const count = (this.#awakeIn.get(block) ?? 0) + change;
    if (count === 0) this.#awakeIn.delete(block);
    else this.#awakeIn.set(block, count);
  }

  /** All but the resting ones: everything with a lease, a proposal, a timer, or somebody who waits for it. */
  awake(): Iterable<Register> {
    return this.#awake.values();
  }

  /** Every message, to be looked at. */
  *values(): Generator<Register> {
    yield* [...this.#awake.values()];
    for (const seq of this.#restingIn(this.#pages.keys())) yield* this.#look(seq);
  }

  /** The same from `fromSeq` on, in the order of seqs. */
  *inOrder(fromSeq: number): Generator<Register> {
    const resting = spansOf(this.#pages.keys(), PAGE_SEQS, fromSeq);
    const awake = spansOf(this.#awakeIn.keys(), BLOCK_SEQS, fromSeq);
    for (const seq of seqsIn([...resting, ...awake])) if (this.has(seq)) yield* this.#look(seq);
  }

  /** Of these, all but the resting ones. */
  *awakeInOrder(fromSeq: number): Generator<Register> {
    for (const seq of seqsIn(spansOf(this.#awakeIn.keys(), BLOCK_SEQS, fromSeq))) {
      const register = this.#awake.get(seq);
      if (register !== undefined) yield register;
    }
  }

  *#look(seq: number): Generator<Register> {
    const register = this.peek(seq);
    if (register !== undefined) yield register;
  }

  /** The resting message that came first. */
  firstResting(): Register | undefined {
    let first = Infinity;
    for (const number of this.#pages.keys()) first = Math.min(first, number);
    const at = this.#pages.get(first)?.heldBy.findIndex((heldBy) => heldBy !== 0) ?? -1;
    return at < 0 ? undefined : this.peek(first * PAGE_SEQS + at);
  }

  /** Lets a message rest if nothing is under way with it. */
  rest(register: Register): void {
    if (this.#awake.size <= this.#init.looseMax || !isIdle(register)) return;
    const { seq, step, heldBy, value } = register;
    if (this.#awake.get(seq) !== register || !this.#rest(seq, value, step, heldBy)) return;
    this.#awake.delete(seq);
    this.#countAwake(seq, -1);
  }

  #rest(seq: number, value: Value, step: number, heldBy: number): boolean {
    if (step > STEP_MAX || heldBy === 0 || heldBy > 0xffff) return false;
    if (value.state !== "READY" || this.#init.stored()?.holds(seq, value, this.#init.right, step) !== true)
      return false;
    this.#put(seq, step, heldBy);
    return true;
  }

  #put(seq: number, step: number, heldBy: number): void {
    const number = Math.floor(seq / PAGE_SEQS);
    let page = this.#pages.get(number);
    if (page === undefined) this.#pages.set(number, (page = new Page()));
    page.heldBy[seq % PAGE_SEQS] = heldBy;
    page.steps[seq % PAGE_SEQS] = step;
    page.count += 1;
    this.#resting += 1;
  }

  /**
   * Takes what a steal found chosen, if it may rest at once: a backlog is never in memory as objects. What its own
   * store has is the value; `false`: it has to be awake.
   */
  restFound({ seq, value, proven }: RecoveredRegister, heldBy: number): boolean {
    if (!proven || this.#awake.size <= this.#init.looseMax || !isPlain(value)) return false;
    return this.#rest(seq, value, -1, heldBy);
  }

  /** Takes messages that a steal found chosen, and in its own store, one behind the other. */
  restAll(from: number, count: number, heldBy: number): void {
    for (let seq = from; seq < from + count; seq += 1) this.#put(seq, -1, heldBy);
  }

  /** One more replica holds a resting message. */
  hold(seq: number, bit: number): void {
    const page = this.#pages.get(Math.floor(seq / PAGE_SEQS));
    const at = seq % PAGE_SEQS;
    if (page !== undefined) page.heldBy[at] = (page.heldBy[at] ?? 0) | bit;
  }

  *#restingIn(pages: Iterable<number>): Generator<number> {
    for (const number of pages) {
      const heldBy = this.#pages.get(number)?.heldBy ?? [];
      for (let at = 0; at < heldBy.length; at += 1) if (heldBy[at] !== 0) yield number * PAGE_SEQS + at;
    }
  }

  #forget(seq: number): void {
    const number = Math.floor(seq / PAGE_SEQS);
    const page = this.#pages.get(number);
    if (page === undefined) return;
    page.heldBy[seq % PAGE_SEQS] = 0;
    page.count -= 1;
    this.#resting -= 1;
    if (page.count === 0) this.#pages.delete(number);
  }

  /** Whether the store's register is what this writer proposed last, or, at step −1, found. */
  #isOwn({ ballot, value }: StoredRegister, step: number): boolean {
    return value.state === "READY" && isAt(ballot, ballot.step, this.#init.right, step);
  }
}

/** Places next to each other. */
interface Span {
  readonly from: number;
  readonly end: number;
}

/** Pages or blocks, of so many seqs each, without what lies before `fromSeq`. */
function spansOf(numbers: Iterable<number>, seqs: number, fromSeq: number): Span[] {
  const spans: Span[] = [];
  for (const number of numbers) {
    const end = (number + 1) * seqs;
    if (end > fromSeq) spans.push({ from: Math.max(fromSeq, number * seqs), end });
  }
  return spans;
}

/** Every seq of these, once and in order. */
function* seqsIn(spans: readonly Span[]): Generator<number> {
  let next = 0;
  for (const { from, end } of spans.toSorted((a, b) => a.from - b.from))
    for (next = Math.max(next, from); next < end; next += 1) yield next;
}

function isIdle(register: Register): boolean {
  const { chosen, value, heldBy, body, enqueue, waiter, timer, recovering, settled } = register;
  const waits = chosen && value.state === "READY" && value.notBeforeWallMs === 0 && heldBy !== 0;
  const free = enqueue === undefined && waiter === undefined && timer === undefined && settled === undefined;
  return waits && free && body === undefined && !recovering;
}
