import { digestOf, forEachLimited, readable } from "./files.ts";
import { nowMs } from "./protocol.ts";
import type { Progress } from "./report.ts";
import type { Tally } from "./tally.ts";

/** Files read at a time. */
const FILES_MAX = 16;

/** Sums every file once more, here, and compares. Returns a line for each file that is not as it should be. */
export async function check(
  directory: string,
  files: readonly string[],
  tally: Tally,
  progress: Progress,
  signal: AbortSignal,
): Promise<string[]> {
  const faults = tally.differing.map((file) => `${nameOf(files, file)}: two nodes read different bytes`);
  const startedAt = nowMs();
  let done = 0;
  let bytes = 0;
  progress.show(done, bytes);
  await forEachLimited(files.keys(), FILES_MAX, async (file) => {
    signal.throwIfAborted();
    const outcome = await digestOf(directory, files[file] ?? "", (count) => {
      bytes += count;
      progress.show(done, bytes);
    });
    const fault = compare(tally.result(file)?.outcome, outcome);
    if (fault !== undefined) faults.push(`${nameOf(files, file)}: ${fault}`);
    done += 1;
    progress.show(done, bytes);
  });
  progress.end(done, bytes, (nowMs() - startedAt) / 1_000);
  return faults;
}

type Found = Awaited<ReturnType<typeof digestOf>>;

function compare(theirs: Found | undefined, ours: Found): string | undefined {
  if (theirs === undefined) return "no result";
  if ("error" in theirs) return `could not be read (${theirs.error})`;
  if ("error" in ours) return `summed by a node, and cannot be read any more (${ours.error})`;
  return theirs.sha256 === ours.sha256 ? undefined : `digest ${theirs.sha256}, should be ${ours.sha256}`;
}

function nameOf(files: readonly string[], file: number): string {
  return readable(files[file] ?? "");
}
