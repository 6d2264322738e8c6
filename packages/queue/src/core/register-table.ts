import type { Ballot } from "./ballot.ts";
import { comparePromises } from "./ballot.ts";
import type { Value } from "./types.ts";

/** What a store has accepted for one message. */
export interface StoredRegister {
  readonly ballot: Ballot;
  readonly value: Value;
  readonly hasBody: boolean;
  /** It has a record of its own: the one of its message is out of date. */
  readonly rewritten: boolean;
}

/** A register as a record has it that packs: it waits, has its body, and nothing more is to be said of it. */
export interface PlainRegister extends Ballot {
  readonly leaseMs: number;
  readonly epoch: number;
  readonly deliveries: number;
  readonly acquired: number;
  readonly bodyBytes: number;
  readonly enqueuedWallMs: number;
  /** Holds the body's hash, from {@link hashAt} on. */
  readonly bytes: Uint8Array;
  readonly hashAt: number;
}

/** Registers in one page. */
const PAGE_SEQS = 512;
/** Characters of a body's hash, each of one byte. */
const HASH_CHARS = 32;
/** Rights and lease times that the packed registers of one lane may have between them. */
const KINDS_MAX = 255;
const UINT16_MAX = 0xffff;
const UINT32_MAX = 0xffff_ffff;
const IS_REWRITTEN = 1;

/** What the registers of one lane have in common. */
interface Kind {
  readonly round: number;
  readonly pid: string;
  readonly leaseMs: number;
}

/** What a page has columns of. */
type Numbers = Pick<
  PlainRegister,
  "step" | "epoch" | "deliveries" | "acquired" | "bodyBytes" | "enqueuedWallMs"
>;

/** Columns of packed registers with neighbouring seqs; a kind of 0 is a free place. */
class Page {
  count = 0;
  readonly kinds = new Uint8Array(PAGE_SEQS);
  readonly flags = new Uint8Array(PAGE_SEQS);
  readonly steps = new Uint32Array(PAGE_SEQS);
  readonly epochs = new Uint32Array(PAGE_SEQS);
  readonly deliveries = new Uint16Array(PAGE_SEQS);
  readonly acquired = new Uint16Array(PAGE_SEQS);
  readonly bodyBytes = new Uint32Array(PAGE_SEQS);
  readonly enqueuedWallMs = new Float64Array(PAGE_SEQS);
  readonly hashes = new Uint8Array(PAGE_SEQS * HASH_CHARS);

  copy(): Page {
    const copy = new Page();
    copy.count = this.count;
    copy.kinds.set(this.kinds);
    copy.flags.set(this.flags);
    copy.steps.set(this.steps);
    copy.epochs.set(this.epochs);
    copy.deliveries.set(this.deliveries);
    copy.acquired.set(this.acquired);
    copy.bodyBytes.set(this.bodyBytes);
    copy.enqueuedWallMs.set(this.enqueuedWallMs);
    copy.hashes.set(this.hashes);
    return copy;
  }
}

/**
 * The registers of one lane in one store, by seq. Messages that wait, which are all of a backlog, are packed
 * into columns at about 60 bytes each, a tenth of what they take as objects.
 */
export class RegisterTable {
  readonly #loose = new Map<number, StoredRegister>();
  readonly #pages = new Map<number, Page>();
  readonly #looseMax: number;
  #kinds: Kind[] = [];
  #packed = 0;

  /** Packs none before it has `looseMax` of them: most lanes never do. */
  constructor(looseMax: number) {
    this.#looseMax = looseMax;
  }

  get size(): number {
    return this.#loose.size + this.#packed;
  }

  has(seq: number): boolean {
    return this.#loose.has(seq) || this.#isPacked(seq);
  }

  get(seq: number): StoredRegister | undefined {
    return this.#loose.get(seq) ?? (this.#packed > 0 ? this.#unpack(seq) : undefined);
  }

  /** Its ballot alone: unpacking a value takes longer. */
  ballotOf(seq: number): Ballot | undefined {
    const loose = this.#loose.get(seq);
    if (loose !== undefined || this.#packed === 0) return loose?.ballot;
    const page = this.#pages.get(Math.floor(seq / PAGE_SEQS));
    return page && this.#ballotAt(page, seq % PAGE_SEQS);
  }

  #ballotAt(page: Page, at: number): Ballot | undefined {
    const kind = this.#kinds[(page.kinds[at] ?? 0) - 1];
    return kind && { round: kind.round, pid: kind.pid, step: page.steps[at] ?? 0 };
  }

  /** Whether it is DONE, as nothing is that is packed. */
  isDone(seq: number): boolean {
    return this.#loose.get(seq)?.value.state === "DONE";
  }

  set(seq: number, register: StoredRegister): void {
    if (this.#packed > 0) this.#free(seq);
    if (this.#loose.size >= this.#looseMax && !this.#loose.has(seq) && this.#pack(seq, register)) return;
    this.#loose.set(seq, register);
  }

  /** Packs a register that is not here; `false`: it has to be {@link set}. */
  setPlain(seq: number, register: PlainRegister): boolean {
    if (this.#loose.size < this.#looseMax || this.has(seq) || !isNarrow(register)) return false;
    const kind = this.#kindOf(register, register.leaseMs);
    if (kind === 0) return false;
    const { bytes, hashAt: from } = register;
    const { hashes } = this.#place(seq, kind, register, 0);
    const to = (seq % PAGE_SEQS) * HASH_CHARS;
    for (let index = 0; index < HASH_CHARS; index += 1) hashes[to + index] = bytes[from + index] ?? 0;
    return true;
  }

  delete(seq: number): void {
    if (!this.#loose.delete(seq) && this.#packed > 0) this.#free(seq);
  }

  /** Every seq, in no order. */
  *keys(): Generator<number> {
    yield* this.#loose.keys();
    for (const [number, page] of this.#pages) {
      for (let at = 0; at < PAGE_SEQS; at += 1) if (page.kinds[at] !== 0) yield number * PAGE_SEQS + at;
    }
  }

  /** What the table holds now; it does not change with it. */
  copy(): RegisterTable {
    const copy = new RegisterTable(this.#looseMax);
    for (const [seq, register] of this.#loose) copy.#loose.set(seq, register);
    for (const [number, page] of this.#pages) copy.#pages.set(number, page.copy());
    copy.#kinds = [...this.#kinds];
    copy.#packed = this.#packed;
    return copy;
  }

  *[Symbol.iterator](): Generator<readonly [seq: number, register: StoredRegister]> {
    for (const seq of this.keys()) {
      const register = this.get(seq);
      if (register !== undefined) yield [seq, register];
    }
  }

  #isPacked(seq: number): boolean {
    const page = this.#pages.get(Math.floor(seq / PAGE_SEQS));
    return page !== undefined && page.kinds[seq % PAGE_SEQS] !== 0;
  }

  #unpack(seq: number): StoredRegister | undefined {
    const page = this.#pages.get(Math.floor(seq / PAGE_SEQS));
    const at = seq % PAGE_SEQS;
    const kind = this.#kinds[(page?.kinds[at] ?? 0) - 1];
    if (page === undefined || kind === undefined) return undefined;
    const { round, pid, leaseMs } = kind;
    return {
      ballot: { round, pid, step: page.steps[at] ?? 0 },
      value: {
        state: "READY",
        epoch: page.epochs[at] ?? 0,
        holder: undefined,
        leaseMs,
        deliveries: page.deliveries[at] ?? 0,
        acquired: page.acquired[at] ?? 0,
        notBeforeWallMs: 0,
        bodyHash: hashAt(page.hashes, at * HASH_CHARS),
        bodyBytes: page.bodyBytes[at] ?? 0,
        reason: undefined,
        enqueuedWallMs: page.enqueuedWallMs[at] ?? 0,
        attributes: undefined,
        encoded: undefined,
      },
      hasBody: true,
      rewritten: (page.flags[at] ?? 0) === IS_REWRITTEN,
    };
  }

  /** `false`: it is not of the kind that packs. */
  #pack(seq: number, { ballot, value, hasBody, rewritten }: StoredRegister): boolean {
    if (!hasBody || !isPlain(value) || ballot.step > UINT32_MAX) return false;
    const kind = this.#kindOf(ballot, value.leaseMs);
    if (kind === 0) return false;
    const { bodyHash } = value;
    for (let index = 0; index < HASH_CHARS; index += 1) if (bodyHash.charCodeAt(index) > 0xff) return false;
    const page = this.#place(seq, kind, { ...value, step: ballot.step }, rewritten ? IS_REWRITTEN : 0);
    const to = (seq % PAGE_SEQS) * HASH_CHARS;
    for (let index = 0; index < HASH_CHARS; index += 1) page.hashes[to + index] = bodyHash.charCodeAt(index);
    return true;
  }

  /** All but the hash. */
  #place(seq: number, kind: number, numbers: Numbers, flags: number): Page {
    const number = Math.floor(seq / PAGE_SEQS);
    let page = this.#pages.get(number);
    if (page === undefined) this.#pages.set(number, (page = new Page()));
    const at = seq % PAGE_SEQS;
    page.kinds[at] = kind;
    page.flags[at] = flags;
    page.steps[at] = numbers.step;
    page.epochs[at] = numbers.epoch;
    page.deliveries[at] = numbers.deliveries;
    page.acquired[at] = numbers.acquired;
    page.bodyBytes[at] = numbers.bodyBytes;
    page.enqueuedWallMs[at] = numbers.enqueuedWallMs;
    page.count += 1;
    this.#packed += 1;
    return page;
  }

  #free(seq: number): void {
    const number = Math.floor(seq / PAGE_SEQS);
    const page = this.#pages.get(number);
    const at = seq % PAGE_SEQS;
    if (page === undefined || page.kinds[at] === 0) return;
    page.kinds[at] = 0;
    page.count -= 1;
    this.#packed -= 1;
    if (page.count === 0) this.#pages.delete(number);
  }

  /** Its number from 1 on; 0 if there is no room for another. */
  #kindOf(ballot: Ballot, leaseMs: number): number {
    const last = this.#kinds.length - 1;
    for (let at = last; at >= 0; at -= 1) {
      const kind = this.#kinds[at];
      if (kind?.leaseMs === leaseMs && comparePromises(kind, ballot) === 0) return at + 1;
    }
    if (this.#kinds.length >= KINDS_MAX) return 0;
    const { round, pid } = ballot;
    this.#kinds.push({ round, pid, leaseMs });
    return this.#kinds.length;
  }
}

/** One character a byte; a spread takes seven times as long. */
function hashAt(hashes: Uint8Array, from: number): string {
  return Reflect.apply(String.fromCharCode, undefined, hashes.subarray(from, from + HASH_CHARS)) as string;
}

/** Whether it waits, and nothing is to be said of it that few messages have. */
function isPlain(value: Value): boolean {
  const { state, notBeforeWallMs, reason, attributes, bodyHash } = value;
  if (state !== "READY" || notBeforeWallMs !== 0 || reason !== undefined || attributes !== undefined) {
    return false;
  }
  return (
    bodyHash.length === HASH_CHARS &&
    value.epoch <= UINT32_MAX &&
    value.bodyBytes <= UINT32_MAX &&
    value.deliveries <= UINT16_MAX &&
    value.acquired <= UINT16_MAX
  );
}

/** Whether its numbers fit into their columns. */
function isNarrow({ step, epoch, bodyBytes, deliveries, acquired }: PlainRegister): boolean {
  const isLong = step > UINT32_MAX || epoch > UINT32_MAX || bodyBytes > UINT32_MAX;
  return !isLong && deliveries <= UINT16_MAX && acquired <= UINT16_MAX;
}
