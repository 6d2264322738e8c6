import type { Ballot, Right } from "./ballot.ts";
import { comparePromises } from "./ballot.ts";
import { headed, isPlain, sameValue } from "./register.ts";
import type { Value } from "./types.ts";

/** What a store has accepted for one message. */
export interface StoredRegister {
  readonly ballot: Ballot;
  readonly value: Value;
  readonly hasBody: boolean;
  /** It has a record of its own: the one of its message is out of date. */
  readonly rewritten: boolean;
}

/** A register as a record has it that packs: it waits, has its body, headers perhaps, and nothing more is to be said of it. */
export interface PlainRegister extends Kind {
  readonly step: number;
  readonly epoch: number;
  readonly deliveries: number;
  readonly acquired: number;
  readonly bodyBytes: number;
  readonly enqueuedWallMs: number;
  /** Holds the body's hash, from {@link hashAt} on. */
  readonly bytes: Uint8Array;
  readonly hashAt: number;
}

/** Two to this power are the seqs of a page, unless somebody says otherwise. */
const PAGE_BITS = 9;
/** Characters of a body's hash, each of one byte. */
const HASH_CHARS = 32;
/** Rights, lease times and lengths of headers that the packed registers of one lane may have between them at a time. */
export const KINDS_MAX: number = 255;
const UINT16_MAX = 0xffff;
const UINT32_MAX = 0xffff_ffff;
const IS_REWRITTEN = 1;
/** A page with fewer than one of so many places taken is smaller as entries. */
const SPARSE_PARTS = 4;

const NONE: ReadonlySet<number> = new Set();

/** What the registers of one lane have in common. */
export interface Kind {
  readonly round: number;
  readonly pid: string;
  readonly leaseMs: number;
  /** 0 for none. */
  readonly headerBytes: number;
}

/** What a page has columns of, beside the step. */
type Numbers = Pick<PlainRegister, "epoch" | "deliveries" | "acquired" | "bodyBytes" | "enqueuedWallMs">;

interface Zeros {
  readonly wide: Uint32Array;
  readonly narrow: Uint16Array;
}

const zeros = new Map<number, Zeros>();

/** Columns that nobody writes into, one pair for each length. */
function zerosOf(seqs: number): Zeros {
  let found = zeros.get(seqs);
  if (found === undefined)
    zeros.set(seqs, (found = { wide: new Uint32Array(seqs), narrow: new Uint16Array(seqs) }));
  return found;
}

/**
 * Columns of packed registers with neighbouring seqs. A kind is the number of one, from 1 on; 0 is a free place. Of
 * messages that nobody was ever handed, what counts hand-outs is nothing but zeros: such columns are shared.
 */
export class Columns {
  count = 0;
  readonly seqs: number;
  readonly kinds: Uint8Array;
  readonly flags: Uint8Array;
  steps: Uint32Array;
  epochs: Uint32Array;
  deliveries: Uint16Array;
  acquired: Uint16Array;
  readonly bodyBytes: Uint32Array;
  readonly enqueuedWallMs: Float64Array;
  readonly hashes: Uint8Array;
  readonly #zeros: Zeros;

  constructor(seqs: number) {
    this.#zeros = zerosOf(seqs);
    this.seqs = seqs;
    this.kinds = new Uint8Array(seqs);
    this.flags = new Uint8Array(seqs);
    this.steps = this.#zeros.wide;
    this.epochs = this.#zeros.wide;
    this.deliveries = this.#zeros.narrow;
    this.acquired = this.#zeros.narrow;
    this.bodyBytes = new Uint32Array(seqs);
    this.enqueuedWallMs = new Float64Array(seqs);
    this.hashes = new Uint8Array(seqs * HASH_CHARS);
  }

  /** All but kind, flags and hash. */
  put(at: number, step: number, { epoch, deliveries, acquired, bodyBytes, enqueuedWallMs }: Numbers): void {
    const { wide, narrow } = this.#zeros;
    if (step !== 0 && this.steps === wide) this.steps = wide.slice();
    if (this.steps !== wide) this.steps[at] = step;
    if (epoch !== 0 && this.epochs === wide) this.epochs = wide.slice();
    if (this.epochs !== wide) this.epochs[at] = epoch;
    if (deliveries !== 0 && this.deliveries === narrow) this.deliveries = narrow.slice();
    if (this.deliveries !== narrow) this.deliveries[at] = deliveries;
    if (acquired !== 0 && this.acquired === narrow) this.acquired = narrow.slice();
    if (this.acquired !== narrow) this.acquired[at] = acquired;
    this.bodyBytes[at] = bodyBytes;
    this.enqueuedWallMs[at] = enqueuedWallMs;
  }

  /** Shares again what is nothing but zeros. */
  share(): void {
    const { wide, narrow } = this.#zeros;
    if (this.steps.every(isZero)) this.steps = wide;
    if (this.epochs.every(isZero)) this.epochs = wide;
    if (this.deliveries.every(isZero)) this.deliveries = narrow;
    if (this.acquired.every(isZero)) this.acquired = narrow;
  }

  copy(): Columns {
    const { wide, narrow } = this.#zeros;
    const copy = new Columns(this.seqs);
    copy.count = this.count;
    copy.kinds.set(this.kinds);
    copy.flags.set(this.flags);
    if (this.steps !== wide) copy.steps = this.steps.slice();
    if (this.epochs !== wide) copy.epochs = this.epochs.slice();
    if (this.deliveries !== narrow) copy.deliveries = this.deliveries.slice();
    if (this.acquired !== narrow) copy.acquired = this.acquired.slice();
    copy.bodyBytes.set(this.bodyBytes);
    copy.enqueuedWallMs.set(this.enqueuedWallMs);
    copy.hashes.set(this.hashes);
    return copy;
  }
}

function isZero(number: number): boolean {
  return number === 0;
}

/** A part of a table on its way to another. Nobody changes it. */
export interface PackedPage {
  /** Its seqs are those from `no` times their number on. */
  readonly no: number;
  readonly kinds: readonly Kind[];
  readonly columns: Columns;
}

/**
 * The registers of one lane in one store, by seq. Messages that wait, which are all of a backlog, are packed
 * into columns at 46 to 58 bytes each, a tenth of what they take as objects.
 */
export class RegisterTable {
  readonly #loose = new Map<number, StoredRegister>();
  readonly #pages = new Map<number, Columns>();
  readonly #looseMax: number;
  readonly #bits: number;
  readonly #mask: number;
  #kinds: Kind[] = [];
  /** How many registers are of each. Lengths of headers come and go: the number of one that nobody has is another's. */
  #users: number[] = [];
  #packed = 0;

  /** Packs none before it has `looseMax` of them: most lanes never do. */
  constructor(looseMax: number, bits: number = PAGE_BITS) {
    this.#looseMax = looseMax;
    this.#bits = bits;
    this.#mask = 2 ** bits - 1;
  }

  /** How many seqs a page has. */
  get pageSeqs(): number {
    return this.#mask + 1;
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
    const page = this.#pages.get(seq >>> this.#bits);
    return page && this.#ballotAt(page, seq & this.#mask);
  }

  #ballotAt(page: Columns, at: number): Ballot | undefined {
    const kind = this.#kinds[(page.kinds[at] ?? 0) - 1];
    return kind && { round: kind.round, pid: kind.pid, step: page.steps[at] ?? 0 };
  }

  /** Whether it holds `value`, at `step` of `right`, or at whatever ballot where the step is negative. Nothing is unpacked for that. */
  holds(seq: number, value: Value, right: Right, step: number): boolean {
    const loose = this.#loose.get(seq);
    if (loose !== undefined)
      return sameValue(loose.value, value) && isAt(loose.ballot, loose.ballot.step, right, step);
    const page = this.#packed > 0 ? this.#pages.get(seq >>> this.#bits) : undefined;
    const at = seq & this.#mask;
    const kind = this.#kinds[(page?.kinds[at] ?? 0) - 1];
    if (page === undefined || kind === undefined || !isPlain(value)) return false;
    if (!isAt(kind, page.steps[at] ?? 0, right, step)) return false;
    const isCounted = page.deliveries[at] === value.deliveries && page.acquired[at] === value.acquired;
    const isHeaded = kind.headerBytes === (value.attributes?.headerBytes ?? 0);
    const isSized = isHeaded && page.bodyBytes[at] === value.bodyBytes && kind.leaseMs === value.leaseMs;
    const isTimed = page.enqueuedWallMs[at] === value.enqueuedWallMs && page.epochs[at] === value.epoch;
    return isCounted && isSized && isTimed && isHashAt(page.hashes, at * HASH_CHARS, value.bodyHash);
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
    if (this.#loose.size < this.#looseMax || this.has(seq) || !isNarrow(register, register.step))
      return false;
    const kind = this.#kindOf(register);
    if (kind === 0) return false;
    const { bytes, hashAt: from } = register;
    const { hashes } = this.#place(seq, kind, register.step, register, 0);
    const to = (seq & this.#mask) * HASH_CHARS;
    for (let index = 0; index < HASH_CHARS; index += 1) hashes[to + index] = bytes[from + index] ?? 0;
    return true;
  }

  delete(seq: number): void {
    if (!this.#loose.delete(seq) && this.#packed > 0) this.#free(seq);
  }

  /** Every seq, in no order, but those of pages that are to be left out. */
  *keys(without: ReadonlySet<number> = NONE): Generator<number> {
    for (const seq of this.#loose.keys()) if (!without.has(seq >>> this.#bits)) yield seq;
    for (const [number, page] of this.#pages) {
      if (without.has(number)) continue;
      for (let at = 0; at < page.kinds.length; at += 1)
        if (page.kinds[at] !== 0) yield number * this.pageSeqs + at;
    }
  }

  /** What the table holds now; it does not change with it. */
  copy(): RegisterTable {
    const copy = new RegisterTable(this.#looseMax, this.#bits);
    for (const [seq, register] of this.#loose) copy.#loose.set(seq, register);
    for (const [number, page] of this.#pages) copy.#pages.set(number, page.copy());
    copy.#kinds = [...this.#kinds];
    copy.#users = [...this.#users];
    copy.#packed = this.#packed;
    return copy;
  }

  /** What it holds, to be sent: all that is not in `packed` is in `loose`. Good while the table does not change. */
  parts(): { readonly loose: readonly number[]; readonly packed: readonly PackedPage[] } {
    const loose = [...this.#loose.keys()];
    const packed: PackedPage[] = [];
    const kinds = [...this.#kinds];
    for (const [no, columns] of this.#pages) {
      if (columns.count * SPARSE_PARTS >= this.pageSeqs) packed.push({ no, kinds, columns });
      else
        for (let at = 0; at <= this.#mask; at += 1)
          if (columns.kinds[at] !== 0) loose.push(no * this.pageSeqs + at);
    }
    return { loose, packed };
  }

  /** Takes a part of another table; `false`: it does not fit here. */
  adopt({ no, kinds, columns }: PackedPage): boolean {
    if (columns.seqs !== this.pageSeqs || this.#pages.has(no) || columns.count === 0) return false;
    const numbers = this.#numbersOf(kinds, columns.kinds);
    if (numbers === undefined) return false;
    let own = columns;
    if (numbers.some((number, at) => number !== at + 1)) {
      own = columns.copy();
      for (const [at, kind] of columns.kinds.entries())
        own.kinds[at] = kind === 0 ? 0 : (numbers[kind - 1] ?? 0);
    }
    this.#pages.set(no, own);
    this.#packed += own.count;
    return true;
  }

  /** The number here of each kind that a page of another table has, for as many registers as it has of it; `undefined`: there is no room for one. */
  #numbersOf(kinds: readonly Kind[], page: Uint8Array): readonly number[] | undefined {
    const counts = kinds.map(() => 0);
    for (const number of page) if (number !== 0) counts[number - 1] = (counts[number - 1] ?? 0) + 1;
    const numbers: number[] = [];
    for (const [at, kind] of kinds.entries()) {
      const number = counts[at] === 0 ? at + 1 : this.#kindOf(kind, at);
      if (number === 0) {
        for (const [before, taken] of numbers.entries()) this.#use(taken, -(counts[before] ?? 0));
        return undefined;
      }
      this.#use(number, counts[at] ?? 0);
      numbers.push(number);
    }
    return numbers;
  }

  /** So many registers more are of a kind. */
  #use(kind: number, count: number): void {
    if (count !== 0) this.#users[kind - 1] = (this.#users[kind - 1] ?? 0) + count;
  }

  /** Numbers of the pages with no free place. */
  *fullPages(): Generator<number> {
    for (const [no, { count }] of this.#pages) if (count === this.pageSeqs) yield no;
  }

  /** Whether page `no` is full here and there, and all of it the same but for what says where a register is written. */
  hasSamePage(no: number, other: RegisterTable): boolean {
    const own = this.#pages.get(no);
    const its = other.#pages.get(no);
    if (own === undefined || own.count !== this.pageSeqs || own.seqs !== its?.seqs) return false;
    if (own === its && this.#kinds === other.#kinds) return true;
    const numbers = this.#kinds.map((kind, at) => 1 + placeOf(kind, other.#kinds, at));
    for (let at = 0; at <= this.#mask; at += 1) {
      const kind = numbers[(own.kinds[at] ?? 0) - 1] ?? 0;
      if (kind === 0 || kind !== its.kinds[at] || own.enqueuedWallMs[at] !== its.enqueuedWallMs[at])
        return false;
      const isSame = own.steps[at] === its.steps[at] && own.epochs[at] === its.epochs[at];
      const isCounted = own.deliveries[at] === its.deliveries[at] && own.acquired[at] === its.acquired[at];
      if (!isSame || !isCounted || own.bodyBytes[at] !== its.bodyBytes[at]) return false;
    }
    return isSameHash(new Uint32Array(own.hashes.buffer), new Uint32Array(its.hashes.buffer));
  }

  /** Bytes of the bodies of a page's messages. */
  bytesOf(no: number): number {
    return this.#pages.get(no)?.bodyBytes.reduce((sum, bytes) => sum + bytes, 0) ?? 0;
  }

  *[Symbol.iterator](): Generator<readonly [seq: number, register: StoredRegister]> {
    for (const seq of this.keys()) {
      const register = this.get(seq);
      if (register !== undefined) yield [seq, register];
    }
  }

  #isPacked(seq: number): boolean {
    const page = this.#pages.get(seq >>> this.#bits);
    return page !== undefined && page.kinds[seq & this.#mask] !== 0;
  }

  #unpack(seq: number): StoredRegister | undefined {
    const page = this.#pages.get(seq >>> this.#bits);
    const at = seq & this.#mask;
    const kind = this.#kinds[(page?.kinds[at] ?? 0) - 1];
    if (page === undefined || kind === undefined) return undefined;
    const { round, pid, leaseMs, headerBytes } = kind;
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
        attributes: headed(headerBytes),
        encoded: undefined,
      },
      hasBody: true,
      rewritten: (page.flags[at] ?? 0) === IS_REWRITTEN,
    };
  }

  /** `false`: it is not of the kind that packs. */
  #pack(seq: number, { ballot, value, hasBody, rewritten }: StoredRegister): boolean {
    if (!hasBody || !isPlain(value) || !isNarrow(value, ballot.step)) return false;
    if (value.bodyHash.length !== HASH_CHARS) return false;
    const { round, pid } = ballot;
    const { leaseMs, attributes } = value;
    const kind = this.#kindOf({ round, pid, leaseMs, headerBytes: attributes?.headerBytes ?? 0 });
    if (kind === 0) return false;
    const { bodyHash } = value;
    for (let index = 0; index < HASH_CHARS; index += 1) if (bodyHash.charCodeAt(index) > 0xff) return false;
    const page = this.#place(seq, kind, ballot.step, value, rewritten ? IS_REWRITTEN : 0);
    const to = (seq & this.#mask) * HASH_CHARS;
    for (let index = 0; index < HASH_CHARS; index += 1) page.hashes[to + index] = bodyHash.charCodeAt(index);
    return true;
  }

  /** All but the hash. */
  #place(seq: number, kind: number, step: number, numbers: Numbers, flags: number): Columns {
    const number = seq >>> this.#bits;
    let page = this.#pages.get(number);
    if (page === undefined) this.#pages.set(number, (page = new Columns(this.pageSeqs)));
    const at = seq & this.#mask;
    page.kinds[at] = kind;
    page.flags[at] = flags;
    page.put(at, step, numbers);
    page.count += 1;
    this.#use(kind, 1);
    this.#packed += 1;
    return page;
  }

  #free(seq: number): void {
    const number = seq >>> this.#bits;
    const page = this.#pages.get(number);
    const at = seq & this.#mask;
    const kind = page?.kinds[at] ?? 0;
    if (page === undefined || kind === 0) return;
    this.#use(kind, -1);
    page.kinds[at] = 0;
    page.count -= 1;
    this.#packed -= 1;
    if (page.count === 0) this.#pages.delete(number);
  }

  /** Its number from 1 on; 0 if there is no room for another. */
  #kindOf({ round, pid, leaseMs, headerBytes }: Kind, likelyAt = -1): number {
    const kind = { round, pid, leaseMs, headerBytes };
    const at = placeOf(kind, this.#kinds, likelyAt);
    if (at >= 0) return at + 1;
    const free = this.#kinds.length < KINDS_MAX ? this.#kinds.length : this.#users.indexOf(0);
    if (free < 0) return 0;
    this.#kinds[free] = kind;
    this.#users[free] = 0;
    return free + 1;
  }
}

function isSameHash(a: Uint32Array, b: Uint32Array): boolean {
  for (let at = 0; at < a.length; at += 1) if (a[at] !== b[at]) return false;
  return true;
}

/** Mostly it is the last one, or, of another table of the same lane, at the same place as there; −1 if it is none of them. */
function placeOf(kind: Kind, kinds: readonly Kind[], likelyAt: number): number {
  const likely = kinds[likelyAt];
  if (likely !== undefined && isSameKind(likely, kind)) return likelyAt;
  return kinds.findLastIndex((one) => isSameKind(one, kind));
}

function isSameKind(a: Kind, b: Kind): boolean {
  return a.leaseMs === b.leaseMs && a.headerBytes === b.headerBytes && comparePromises(a, b) === 0;
}

/** Whether what stands at `own` and `ownStep` stands at `step` of `right`; a negative one is any. */
export function isAt(own: Right, ownStep: number, right: Right, step: number): boolean {
  return step < 0 || (ownStep === step && comparePromises(own, right) === 0);
}

function isHashAt(hashes: Uint8Array, from: number, hash: string): boolean {
  if (hash.length !== HASH_CHARS) return false;
  for (let at = 0; at < HASH_CHARS; at += 1) if (hashes[from + at] !== hash.charCodeAt(at)) return false;
  return true;
}

/** One character a byte; a spread takes seven times as long. */
function hashAt(hashes: Uint8Array, from: number): string {
  return Reflect.apply(String.fromCharCode, undefined, hashes.subarray(from, from + HASH_CHARS)) as string;
}

/** Whether its numbers fit into their columns. */
function isNarrow(
  { epoch, bodyBytes, deliveries, acquired }: Omit<Numbers, "enqueuedWallMs">,
  step: number,
): boolean {
  const isLong = step > UINT32_MAX || epoch > UINT32_MAX || bodyBytes > UINT32_MAX;
  return !isLong && deliveries <= UINT16_MAX && acquired <= UINT16_MAX;
}
