/** Slots a table starts with and never falls below. */
const CAPACITY_MIN = 1_024;
/** Neighbouring rows lie side by side in groups of this many, so that runs of them stay in the cache. */
const GROUP_BITS = 4;
/** The family of a free slot. */
const FREE = 0;

/**
 * Which batch holds the newest version of each recent row, and where: a hash table in typed arrays. A
 * store writes hundreds of thousands of rows a second and forgets them soon after; as objects in a map
 * they cost the garbage collector more than all else.
 */
export class RowTable {
  #mask = 0;
  #size = 0;
  #families!: Uint8Array;
  #slots!: Uint32Array;
  #seqs!: Uint32Array;
  #nos!: Float64Array;
  #offsets!: Uint32Array;
  #lengths!: Int32Array;
  #absent!: Uint8Array;

  constructor() {
    this.#allocate(CAPACITY_MIN);
  }

  get size(): number {
    return this.#size;
  }

  /** Where the row stands, until the next {@link set}, {@link delete} or {@link clear}; −1 if it is not there. */
  find(family: number, slot: number, seq: number): number {
    const mask = this.#mask;
    let at = hash(family, slot, seq) & mask;
    for (;;) {
      const found = this.#families[at];
      if (found === FREE) return -1;
      if (found === family && this.#seqs[at] === seq && this.#slots[at] === slot) return at;
      at = (at + 1) & mask;
    }
  }

  /** Number of the batch with the newest version. */
  no(at: number): number {
    return this.#nos[at] ?? 0;
  }

  offset(at: number): number {
    return this.#offsets[at] ?? 0;
  }

  /** Bytes of the value, −1 for a delete. */
  length(at: number): number {
    return this.#lengths[at] ?? 0;
  }

  /** Whether the store's table on disk holds no version of the row. */
  isAbsent(at: number): boolean {
    return this.#absent[at] === 1;
  }

  markPresent(at: number): void {
    this.#absent[at] = 0;
  }

  /** Enters a version. `fresh` says that there is none on disk; it counts only for a row that is not here yet. */
  set(
    family: number,
    slot: number,
    seq: number,
    no: number,
    offset: number,
    length: number,
    fresh: boolean,
  ): void {
    if (this.#size * 2 > this.#mask) this.#resize((this.#mask + 1) * 2);
    const mask = this.#mask;
    let at = hash(family, slot, seq) & mask;
    for (;;) {
      const found = this.#families[at];
      if (found === FREE) {
        this.#families[at] = family;
        this.#slots[at] = slot;
        this.#seqs[at] = seq;
        this.#absent[at] = fresh ? 1 : 0;
        this.#size += 1;
        break;
      }
      if (found === family && this.#seqs[at] === seq && this.#slots[at] === slot) break;
      at = (at + 1) & mask;
    }
    this.#nos[at] = no;
    this.#offsets[at] = offset;
    this.#lengths[at] = length;
  }

  /** Frees a place {@link find} returned. Rows behind it move up, so that no search stops short of them. */
  delete(at: number): void {
    const mask = this.#mask;
    let hole = at;
    let next = (hole + 1) & mask;
    while (this.#families[next] !== FREE) {
      const home = hash(this.#families[next] ?? 0, this.#slots[next] ?? 0, this.#seqs[next] ?? 0) & mask;
      // It may fill the hole unless its home lies cyclically between the hole and itself.
      if (((next - home) & mask) >= ((next - hole) & mask)) {
        this.#move(next, hole);
        hole = next;
      }
      next = (next + 1) & mask;
    }
    this.#families[hole] = FREE;
    this.#size -= 1;
  }

  /** Gives memory back once few rows are left. */
  trim(): void {
    const capacity = this.#mask + 1;
    if (capacity > CAPACITY_MIN && this.#size * 16 < capacity) this.#resize(capacity / 4);
  }

  *places(): Generator<{ readonly family: number; readonly slot: number; readonly seq: number; at: number }> {
    for (let at = 0; at <= this.#mask; at += 1) {
      const family = this.#families[at] ?? FREE;
      if (family !== FREE) yield { family, slot: this.#slots[at] ?? 0, seq: this.#seqs[at] ?? 0, at };
    }
  }

  clear(): void {
    this.#size = 0;
    this.#allocate(CAPACITY_MIN);
  }

  #move(from: number, to: number): void {
    this.#families[to] = this.#families[from] ?? 0;
    this.#slots[to] = this.#slots[from] ?? 0;
    this.#seqs[to] = this.#seqs[from] ?? 0;
    this.#nos[to] = this.#nos[from] ?? 0;
    this.#offsets[to] = this.#offsets[from] ?? 0;
    this.#lengths[to] = this.#lengths[from] ?? 0;
    this.#absent[to] = this.#absent[from] ?? 0;
  }

  #allocate(capacity: number): void {
    this.#mask = capacity - 1;
    this.#families = new Uint8Array(capacity);
    this.#slots = new Uint32Array(capacity);
    this.#seqs = new Uint32Array(capacity);
    this.#nos = new Float64Array(capacity);
    this.#offsets = new Uint32Array(capacity);
    this.#lengths = new Int32Array(capacity);
    this.#absent = new Uint8Array(capacity);
  }

  #resize(capacity: number): void {
    const families = this.#families;
    const slots = this.#slots;
    const seqs = this.#seqs;
    const nos = this.#nos;
    const offsets = this.#offsets;
    const lengths = this.#lengths;
    const absent = this.#absent;
    this.#size = 0;
    this.#allocate(capacity);
    for (let at = 0; at < families.length; at += 1) {
      const family = families[at] ?? FREE;
      if (family === FREE) continue;
      const fresh = absent[at] === 1;
      this.set(
        family,
        slots[at] ?? 0,
        seqs[at] ?? 0,
        nos[at] ?? 0,
        offsets[at] ?? 0,
        lengths[at] ?? 0,
        fresh,
      );
    }
  }
}

/** Mixes family, slot and group (murmur3's finalizer); the place in the group is kept. */
function hash(family: number, slot: number, seq: number): number {
  let mixed = Math.imul(slot, 0x9e37_79b1) ^ Math.imul(family, 0x85eb_ca6b) ^ (seq >>> GROUP_BITS);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85eb_ca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2_ae35);
  mixed ^= mixed >>> 16;
  return (mixed << GROUP_BITS) | (seq & ((1 << GROUP_BITS) - 1));
}
