import type { Done, Result } from "./protocol.ts";

export interface NodeTally {
  files: number;
  bytes: number;
}

/** The results so far. Delivery is at least once: the first result of a file counts, others are doubles. */
export class Tally {
  readonly byNode = new Map<string, NodeTally>();
  /** Milliseconds from the enqueue of a job to its digest, in order of arrival. */
  readonly latenciesMs: number[] = [];
  readonly #results: (Result | undefined)[];
  readonly #differing: number[] = [];
  #doubles = 0;

  constructor(fileCount: number, nodes: readonly string[]) {
    this.#results = Array.from({ length: fileCount });
    for (const node of nodes) this.byNode.set(node, { files: 0, bytes: 0 });
  }

  get fileCount(): number {
    return this.#results.length;
  }

  get doneCount(): number {
    return this.latenciesMs.length;
  }

  /** Results of files that had one. */
  get doubles(): number {
    return this.#doubles;
  }

  /** Files two of whose results differ: somebody wrote to them meanwhile. */
  get differing(): readonly number[] {
    return this.#differing;
  }

  add(done: Done): void {
    const { file, node, outcome } = done;
    const earlier = this.#results[file];
    if (earlier !== undefined) {
      this.#doubles += 1;
      if (JSON.stringify(earlier.outcome) !== JSON.stringify(outcome)) this.#differing.push(file);
      return;
    }
    this.#results[file] = done;
    this.latenciesMs.push(done.doneAt - done.enqueuedAt);
    const mine = this.byNode.get(node);
    if (mine === undefined) return;
    mine.files += 1;
    if ("bytes" in outcome) mine.bytes += outcome.bytes;
  }

  result(file: number): Result | undefined {
    return this.#results[file];
  }

  /** Files without a result. */
  missing(): number[] {
    return [...this.#results.keys()].filter((file) => this.#results[file] === undefined);
  }
}
