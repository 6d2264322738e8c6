import type { Context, Tuning } from "./context.ts";
import { Fifo } from "./fifo.ts";
import type { RecoveredRegister } from "./lane-register.ts";
import type { KeptKeys } from "./messages.ts";
import type { Descriptor, Keys, Value } from "./types.ts";

/** Keys one lane knows at most: about 200 bytes of memory each. */
const KEYS_MAX = 524_288;

/** Messages of one group that are neither done nor dead, by seq. */
class Line {
  #seqs: number[] = [];
  #head = 0;
  /** The one that is leased, or proposed to be. */
  flying: number | undefined;

  get size(): number {
    return this.#seqs.length - this.#head;
  }

  get first(): number | undefined {
    return this.#seqs[this.#head];
  }

  add(seq: number): void {
    const last = this.#seqs.at(-1);
    if (this.size === 0 || last === undefined || last < seq) return void this.#seqs.push(seq);
    const at = this.#placeOf(seq);
    // A dead message that was put back comes where it was.
    if (this.#seqs[at] !== seq) this.#seqs.splice(at, 0, seq);
  }

  /** Where it is, or would be. */
  #placeOf(seq: number): number {
    let low = this.#head;
    let high = this.#seqs.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#seqs[middle] ?? 0) < seq) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  delete(seq: number): void {
    if (this.flying === seq) this.flying = undefined;
    if (this.first === seq) {
      this.#head += 1;
      if (this.#head < 1_024 || this.#head * 2 < this.#seqs.length) return;
      this.#seqs = this.#seqs.slice(this.#head);
      this.#head = 0;
      return;
    }
    const at = this.#placeOf(seq);
    if (this.#seqs[at] === seq) this.#seqs.splice(at, 1);
  }
}

/** A group with messages that wait or are held. */
export interface GroupState {
  readonly group: string;
  readonly count: number;
  /** The one that is next, or held. */
  readonly seq: number;
}

type Ages = Pick<Context, "awakeMs" | "now">;

interface Known {
  readonly name: string;
  readonly seq: number;
  readonly keys: Keys;
  /** Of a key by the wall clock of the message's writer; of a token by how long this node was awake, since it knows it. */
  readonly atMs: number;
}

/**
 * What is known by a name for a while. Who leaves is found in a list of its own: a map that loses its first entries all the time
 * passes each of them again, in every new look for the first that is left, until it is made anew.
 */
class KnownNames {
  readonly #byName = new Map<string, Known>();
  /** In the order of their times, with those that somebody else took the name of since. */
  readonly #inTurn = new Fifo<Known>();

  get size(): number {
    return this.#byName.size;
  }

  get(name: string): Known | undefined {
    return this.#byName.get(name);
  }

  values(): Iterable<Known> {
    return this.#byName.values();
  }

  set(known: Known): void {
    this.#byName.set(known.name, known);
    this.#inTurn.push(known);
  }

  /** Forgets what is as old as that. */
  sweep(endMs: number): void {
    for (let first = this.#inTurn.first; first !== undefined; first = this.#inTurn.first) {
      if (first.atMs > endMs) return;
      this.#inTurn.shift();
      if (this.#byName.get(first.name) === first) this.#byName.delete(first.name);
    }
  }
}

/**
 * What the writer of an ordered lane knows beyond its registers: who is next in each group (G6), and which keys
 * are taken (G7). All of it is in the registers and kept keys that a steal brings along.
 */
export class LaneOrder {
  readonly #dedupMs: number;
  readonly #tokenMs: number;
  readonly #groups = new Map<string, Line>();
  readonly #tokens = new KnownNames();
  readonly #keys = new KnownNames();

  constructor(dedupMs: number, tokenMs: number) {
    this.#dedupMs = dedupMs;
    this.#tokenMs = tokenMs;
  }

  // Groups.

  /** The message's value is proposed, or `chosen`: only then is it out of the way. */
  follow(seq: number, value: Value, chosen: boolean): void {
    const group = value.attributes?.group;
    if (group === undefined) return;
    let line = this.#groups.get(group);
    if (value.state === "DONE" || value.reason !== undefined) {
      if (chosen) line?.delete(seq);
      if (line?.size === 0) this.#groups.delete(group);
      return;
    }
    if (line === undefined) this.#groups.set(group, (line = new Line()));
    line.add(seq);
    if (value.state === "LEASED") line.flying = seq;
    else if (chosen && line.flying === seq) line.flying = undefined;
  }

  /** Whether nobody of its group comes before it, or is held. */
  isNext(seq: number, { attributes, reason }: Value): boolean {
    if (attributes?.group === undefined || reason !== undefined) return true;
    const line = this.#groups.get(attributes.group);
    return line === undefined || (line.first === seq && (line.flying ?? seq) === seq);
  }

  /** Who may have become the next in the message's group by what it is now: nobody by one that was never leased and just waits. */
  next({ attributes, state, epoch }: Value): number | undefined {
    if (state === "READY" && epoch === 0) return undefined;
    const line = attributes?.group === undefined ? undefined : this.#groups.get(attributes.group);
    return line?.flying === undefined ? line?.first : undefined;
  }

  /** Whether messages of the group wait or are held. */
  hasGroup(group: string | undefined): boolean {
    return group !== undefined && this.#groups.has(group);
  }

  *groups(): Iterable<GroupState> {
    for (const [group, line] of this.#groups) {
      const seq = line.flying ?? line.first;
      if (seq !== undefined) yield { group, count: line.size, seq };
    }
  }

  // Keys.

  /** The message that came with this key before, within the window; `token` says whether by the very same enqueue. */
  find(keys: Omit<Keys, "atWallMs">, wallMs: number): { seq: number; same: boolean } | undefined {
    const same = this.#tokens.get(keys.token);
    if (same !== undefined) return { seq: same.seq, same: true };
    const name = nameOf(keys);
    const known = name === undefined ? undefined : this.#keys.get(name);
    if (known === undefined || known.atMs + this.#dedupMs <= wallMs) return undefined;
    return { seq: known.seq, same: false };
  }

  /** `false`: there are as many as may be. */
  get hasRoom(): boolean {
    return this.#tokens.size < KEYS_MAX && this.#keys.size < KEYS_MAX;
  }

  take({ seq, keys }: KeptKeys, awakeMs: number): void {
    this.#tokens.set({ name: keys.token, seq, keys, atMs: awakeMs });
    const name = this.#dedupMs === 0 ? undefined : nameOf(keys);
    if (name !== undefined) this.#keys.set({ name, seq, keys, atMs: keys.atWallMs });
  }

  /** All that count still, of messages that live and of others. */
  kept(now: Ages): readonly KeptKeys[] {
    this.sweep(now);
    const bySeq = new Map<number, Keys>();
    for (const { seq, keys } of [...this.#tokens.values(), ...this.#keys.values()]) bySeq.set(seq, keys);
    return [...bySeq].map(([seq, keys]) => ({ seq, keys }));
  }

  /** What a steal found: live messages, and keys of finished ones. */
  recover(
    found: readonly Pick<RecoveredRegister, "seq" | "value">[],
    kept: readonly KeptKeys[],
    awakeMs: number,
  ): void {
    const all = [...kept];
    for (const { seq, value } of found) {
      this.follow(seq, value, false);
      const keys = keysOf(value);
      if (keys !== undefined) all.push({ seq, keys });
    }
    all.sort((a, b) => a.keys.atWallMs - b.keys.atWallMs);
    for (const one of all) this.take(one, awakeMs);
  }

  /** Forgets what its time is over for. */
  sweep({ awakeMs, now }: Ages): void {
    this.#tokens.sweep(awakeMs - this.#tokenMs);
    this.#keys.sweep(now.wallMs - this.#dedupMs);
  }
}

/** A key counts within its group: groups lie in different lanes. Where the group ends, its length tells: both may have any character. */
function nameOf({ group, dedupKey }: Omit<Keys, "atWallMs">): string | undefined {
  return dedupKey === undefined ? undefined : `${group?.length ?? 0} ${group ?? ""}${dedupKey}`;
}

/** What the enqueue of this message is known by; `undefined` outside ordered lanes. */
export function keysOf({ attributes, enqueuedWallMs }: Value): Keys | undefined {
  if (attributes?.token === undefined) return undefined;
  const { token, group, dedupKey } = attributes;
  return { token, group, dedupKey, atWallMs: enqueuedWallMs };
}

/** Of a lane that keeps order; `undefined` for any other. */
export function makeOrder(tuning: Tuning, { shard }: Descriptor): LaneOrder | undefined {
  if (shard === undefined) return undefined;
  // A key counts at least as long as its window, although the clocks of two writers differ.
  const dedupMs = shard.dedupMs === 0 ? 0 : shard.dedupMs + tuning.clockSlackMs;
  return new LaneOrder(dedupMs, tuning.tokenKeepMs);
}
