import type { Counters } from "./protocol.ts";
import type { RunReport } from "./run.ts";

const BAR_WIDTH = 24;
/** How often progress is shown, in milliseconds: on a terminal, and in a log. */
const REDRAW_MS = 100;
const LINE_MS = 3_000;

/** Progress of one phase: a line redrawn on a terminal, a line every few seconds elsewhere. */
export class Progress {
  readonly #label: string;
  readonly #total: number;
  readonly #out: NodeJS.WriteStream;
  /** The first call of `show` starts the clock. */
  #startedAt: number | undefined;
  #shownAt = 0;
  #drawn = false;

  constructor(label: string, total: number, out: NodeJS.WriteStream = process.stdout) {
    this.#label = label;
    this.#total = total;
    this.#out = out;
  }

  show(done: number, bytes: number): void {
    const now = performance.now();
    if (this.#startedAt === undefined) {
      this.#startedAt = now;
      this.#shownAt = now;
    }
    if (now - this.#shownAt < (this.#out.isTTY ? REDRAW_MS : LINE_MS)) return;
    this.#shownAt = now;
    this.#write(done, bytes, (now - this.#startedAt) / 1_000);
  }

  /** The last word of this phase, which took `seconds`. */
  end(done: number, bytes: number, seconds: number): void {
    this.#write(done, bytes, seconds);
    if (this.#drawn) this.#out.write("\n");
    this.#drawn = false;
  }

  /** A line of its own, above the one that is redrawn. */
  say(line: string): void {
    this.#out.write(this.#drawn ? `\r\u001B[K${line}\n` : `${line}\n`);
    this.#drawn = false;
  }

  #write(done: number, bytes: number, seconds: number): void {
    const share = this.#total === 0 ? 1 : done / this.#total;
    const filled = Math.floor(share * BAR_WIDTH);
    const bar = "#".repeat(filled) + "-".repeat(BAR_WIDTH - filled);
    const line =
      `${this.#label} [${bar}] ${Math.floor(share * 100)} %  ${count(done)} of ${count(this.#total)} files  ` +
      rates(done, bytes, seconds);
    this.#drawn = this.#out.isTTY;
    this.#out.write(this.#drawn ? `\r\u001B[K${line.slice(0, this.#out.columns)}` : `${line}\n`);
  }
}

/** What was done, by whom, and how fast. */
export function summary({ tally, seconds, nodes, enqueuedAgain }: RunReport): string {
  const rows = nodes.map(({ name, counters, killed }) => {
    const { files = 0, bytes = 0 } = tally.byNode.get(name) ?? {};
    return [
      killed ? `${name} (killed)` : name,
      count(files),
      megabytes(bytes),
      count(wins(counters, files)),
      count(counters.redelivered),
    ];
  });
  const bytes = sum([...tally.byNode.values()].map((node) => node.bytes));
  const electionsWon = sum(
    nodes.map(({ name, counters }) => wins(counters, tally.byNode.get(name)?.files ?? 0)),
  );
  const redelivered = sum(nodes.map(({ counters }) => counters.redelivered));
  const latencies = tally.latenciesMs.toSorted((a, b) => a - b);
  return [
    table([
      ["node", "files", "MB", "elections won", "redeliveries"],
      ...rows,
      ["all", count(tally.doneCount), megabytes(bytes), count(electionsWon), count(redelivered)],
    ]),
    "",
    `${count(tally.doneCount)} files in ${seconds.toFixed(1)} s: ` + rates(tally.doneCount, bytes, seconds),
    `from enqueue to digest, the time in the queue included: p50 ${duration(percentile(latencies, 50))}, p99 ${duration(percentile(latencies, 99))}`,
    `${count(redelivered)} messages were redelivered, ${count(tally.doubles)} results came twice` +
      (enqueuedAgain > 0 ? `, ${count(enqueuedAgain)} jobs of a dead node were enqueued again` : ""),
  ].join("\n");
}

/** A killed node's last report may be older than its last results. */
function wins({ electionsWon }: Counters, files: number): number {
  return Math.max(electionsWon, files);
}

/** The first column to the left, numbers to the right. */
function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows
    .map((row) =>
      row
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join("   "),
    )
    .join("\n");
}

/** The nearest-rank percentile of ascending values; `undefined` if there are none. */
function percentile(ascending: readonly number[], percent: number): number | undefined {
  return ascending[Math.max(0, Math.ceil((ascending.length * percent) / 100) - 1)];
}

function duration(ms: number | undefined): string {
  if (ms === undefined) return "-";
  return ms < 1_000 ? `${ms.toFixed(0)} ms` : `${(ms / 1_000).toFixed(1)} s`;
}

function rates(files: number, bytes: number, seconds: number): string {
  const perSecond = (amount: number): number => (seconds > 0 ? amount / seconds : 0);
  return `${count(perSecond(files))} files/s, ${megabytes(perSecond(bytes))} MB/s`;
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

export function count(value: number): string {
  return Math.round(value).toLocaleString("en");
}
