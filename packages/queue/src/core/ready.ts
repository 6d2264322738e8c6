/** Entries behind the head are cut off once there are this many. */
const CUT_MIN = 4_096;

/** Messages of one lane that came one after the other: a backlog takes next to nothing. */
interface Run<L> {
  readonly lane: L;
  from: number;
  to: number;
}

/** A first-in, first-out list whose head moves without copying the rest. */
class Line<L> {
  #runs: Run<L>[] = [];
  #head = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  peek(): readonly [lane: L, seq: number] | undefined {
    const run = this.#runs[this.#head];
    return run === undefined ? undefined : [run.lane, run.from];
  }

  push(lane: L, from: number, to: number): void {
    this.#size += to - from;
    const last = this.#runs.at(-1);
    if (last !== undefined && last.lane === lane && last.to === from) last.to = to;
    else this.#runs.push({ lane, from, to });
  }

  keep(wanted: (lane: L, seq: number) => boolean): void {
    const runs = this.#runs.slice(this.#head);
    this.#runs = [];
    this.#head = 0;
    this.#size = 0;
    for (const { lane, from, to } of runs) {
      for (let seq = from; seq < to; seq += 1) if (wanted(lane, seq)) this.push(lane, seq, seq + 1);
    }
  }

  drop(): void {
    const run = this.#runs[this.#head];
    if (run === undefined) return;
    this.#size -= 1;
    run.from += 1;
    if (run.from < run.to) return;
    this.#head += 1;
    if (this.#head === this.#runs.length) {
      this.#runs = [];
      this.#head = 0;
    } else if (this.#head > CUT_MIN && this.#head * 2 > this.#runs.length) {
      this.#runs = this.#runs.slice(this.#head);
      this.#head = 0;
    }
  }
}

/** What waits for a consumer, as lane and seq: higher priority first, then in the order it came. */
export class ReadyList<L> {
  readonly #plain = new Line<L>();
  /** By priority above 0; none while nobody uses priorities. */
  readonly #urgent: (Line<L> | undefined)[] = [];
  #urgentCount = 0;

  get size(): number {
    return this.#plain.size + this.#urgentCount;
  }

  push(lane: L, seq: number, priority: number): void {
    if (priority <= 0) return this.#plain.push(lane, seq, seq + 1);
    this.#urgentCount += 1;
    (this.#urgent[priority] ??= new Line()).push(lane, seq, seq + 1);
  }

  /** Messages without priority, one behind the other. */
  pushRun(lane: L, from: number, to: number): void {
    this.#plain.push(lane, from, to);
  }

  /** The one that is next; `undefined` if nothing waits. */
  peek(): readonly [lane: L, seq: number] | undefined {
    return this.#first().peek();
  }

  /** Takes the one that {@link peek} shows. */
  drop(): void {
    const line = this.#first();
    if (line.size === 0) return;
    line.drop();
    if (line !== this.#plain) this.#urgentCount -= 1;
  }

  /** Forgets what is not wanted any more. */
  keep(wanted: (lane: L, seq: number) => boolean): void {
    this.#plain.keep(wanted);
    this.#urgentCount = 0;
    for (const line of this.#urgent) {
      line?.keep(wanted);
      this.#urgentCount += line?.size ?? 0;
    }
  }

  #first(): Line<L> {
    if (this.#urgentCount > 0) {
      for (let priority = this.#urgent.length - 1; priority > 0; priority -= 1) {
        const line = this.#urgent[priority];
        if (line !== undefined && line.size > 0) return line;
      }
    }
    return this.#plain;
  }
}
