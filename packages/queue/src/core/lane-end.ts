import type { Right } from "./ballot.ts";
import { bitCount } from "./lane-register.ts";
import type { Descriptor, EndValue, Ranges } from "./types.ts";

/** What END waits for. */
interface Standing {
  /** Values that have to be chosen before END may say which messages exist [M7]. */
  readonly awaited: number;
  /** Registers whose latest value is not chosen. */
  readonly unchosen: number;
  /** Messages that are not finished. */
  readonly left: number;
  /** Seqs below this one exist, but for the voids: as this writer found or appended them. */
  readonly n: number;
  readonly voids: () => Ranges;
  /** Of the writer. */
  readonly right: Right;
}

/** The END register of one lane as its writer proposes it: flows 7 and 8, and flow 10's way from a lane to its heir. */
export class LaneEnd {
  /** Of the latest proposal, −1 before there is one. */
  step = -1;
  readonly #isHeir: boolean;
  readonly #isOrdered: boolean;
  readonly #quorum: number;
  #value: EndValue | undefined;
  #acks = 0;
  #chosen = false;
  #wasChosen = false;
  /** The heir this lane is to get. */
  #planned: Descriptor | undefined;
  /** The heir's own END is chosen: the messages are there. */
  #isMoved = false;
  /** The END it will have: of an heir that has everything to import, or the cut of an ordered lane. */
  #copied: EndValue | undefined;

  constructor(quorum: number, { heirOf, shard }: Descriptor) {
    this.#quorum = quorum;
    this.#isHeir = heirOf !== undefined;
    this.#isOrdered = shard !== undefined;
  }

  /** Latest proposal. */
  get value(): EndValue | undefined {
    return this.#value;
  }

  get chosen(): EndValue | undefined {
    return this.#chosen ? this.#value : undefined;
  }

  /** An heir that hands out nothing yet: what it has to import may not be all there [M10]. */
  get isImporting(): boolean {
    return this.#isHeir && !this.#wasChosen;
  }

  /** An heir whose import has yet to begin. */
  get wantsImport(): boolean {
    return this.isImporting && this.#value === undefined && this.#copied === undefined;
  }

  /** The messages go to an heir, or are there: this lane changes none of them [M11]. */
  get isMoving(): boolean {
    return this.#planned !== undefined || this.#value?.heir !== undefined;
  }

  /** No heir is named yet: until then leases are as good as ever, and may be renewed. */
  get isHere(): boolean {
    return this.#value?.heir === undefined && !this.isImporting;
  }

  get isMoved(): boolean {
    return this.#isMoved;
  }

  /** `heir` follows once nothing is under way any more. */
  plan(heir: Descriptor): void {
    this.#planned ??= heir;
  }

  /** No heir after all. `false`: END may name it already. */
  stay(): boolean {
    if (this.#value?.heir !== undefined) return false;
    this.#planned = undefined;
    return true;
  }

  onMoved(): void {
    this.#isMoved = true;
  }

  /** An import begins: END will be the one of the lane it comes from. */
  copy({ n, voids }: EndValue): void {
    this.#copied = { n, voids, closed: false, ...(this.#isOrdered ? { base: n } : {}) };
  }

  /** An ordered lane's END is the cut its writer makes; nothing follows but an heir. */
  cut(end: EndValue | undefined): void {
    this.#copied = end;
  }

  /** What END is to say next, if its time has come. Fields are only added. */
  next({ awaited, unchosen, left, n, voids, right }: Standing): EndValue | undefined {
    if (awaited > 0) return undefined;
    const value = this.#value;
    // A stealer of an heir ends nothing that it did not import [M18].
    if (value === undefined && this.#isHeir) return this.#copied;
    if (value === undefined && this.#isOrdered) return this.#copied;
    if (value === undefined) return { n, voids: voids(), closed: false };
    if (!this.#chosen || value.closed) return undefined;
    if (value.heir !== undefined) return this.#isMoved ? { ...value, closed: true } : undefined;
    if (left === 0 && !this.#isOrdered) return { ...value, closed: true };
    if (this.#planned === undefined || unchosen > 0) return undefined;
    const frozen = { ...value, heir: this.#planned };
    return this.#isOrdered ? { ...frozen, n, frozenBy: right } : frozen;
  }

  propose(value: EndValue): void {
    this.step += 1;
    this.#value = value;
    this.#acks = 0;
    this.#chosen = false;
  }

  /** A replica has `step` on disk. If that made it chosen, what END says. */
  count(bit: number, step: number): EndValue | undefined {
    if (this.#value === undefined || this.#chosen || this.step !== step) return undefined;
    this.#acks |= bit;
    if (bitCount(this.#acks) < this.#quorum) return undefined;
    this.#chosen = true;
    this.#wasChosen = true;
    return this.#value;
  }
}
