/** What each process writes down of what it does: a line is on its way to the disk before the next step begins. */
import { openSync, readdirSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";

/** How a consumer ends a delivery. */
export type Act = "ack" | "nack" | "release" | "reject";

/** One fact. A message is known by its key, which its body carries, until the queue gives it an id. */
export type Fact =
  /** About to enqueue; with a group or a key that deduplicates in the ordered queue. */
  | {
      readonly what: "try";
      readonly key: string;
      readonly group?: string | undefined;
      readonly dedupKey?: string | undefined;
    }
  | { readonly what: "ok"; readonly key: string; readonly id: string }
  /** It is called a duplicate of that message. */
  | { readonly what: "same"; readonly key: string; readonly id: string }
  | {
      readonly what: "no";
      readonly key: string;
      readonly code: string;
      readonly outcome: string;
      readonly id: string | undefined;
    }
  /** A handler begins. `flaw`: what is wrong with the body. */
  | {
      readonly what: "got";
      readonly id: string;
      readonly epoch: number;
      readonly key: string;
      readonly flaw: string | undefined;
    }
  /** About to end the delivery so. */
  | { readonly what: "act"; readonly id: string; readonly epoch: number; readonly act: Act }
  /** That was confirmed. */
  | { readonly what: "done"; readonly id: string; readonly epoch: number; readonly act: Act }
  | { readonly what: "leads"; readonly token: string }
  /** Whatever else a reader may want to know. */
  | { readonly what: "note"; readonly text: string }
  /** The process was stopped by a signal, and went on. */
  | { readonly what: "stopped" | "continued"; readonly node: string };

/** A fact, who tells it, and when: microseconds of the machine's monotonic clock, the same in all processes. */
export type Entry = Fact & { readonly node: string; readonly atUs: number };

function nowUs(): number {
  return Number(process.hrtime.bigint() / 1_000n);
}

/** Appends facts to a file of one process. A SIGKILL loses none that was written: the kernel has it. */
export class HistoryWriter {
  readonly #file: number;

  constructor(directory: string, node: string, run: number) {
    this.#file = openSync(join(directory, `${node}.${run}.jsonl`), "a");
  }

  write(fact: Fact): void {
    writeSync(this.#file, `${JSON.stringify({ atUs: nowUs(), ...fact })}\n`);
  }
}

/** All facts in the order of their time. A last line that a SIGKILL cut short is left out. */
export function readHistory(directory: string): readonly Entry[] {
  const entries = readdirSync(directory).flatMap((file) => {
    const node = file.split(".")[0] ?? "";
    const lines = readFileSync(join(directory, file), "utf8").split("\n").slice(0, -1);
    return lines.map((line) => ({ node, ...(JSON.parse(line) as Fact & { readonly atUs: number }) }));
  });
  return entries.toSorted((a, b) => a.atUs - b.atUs);
}
