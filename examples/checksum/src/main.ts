/**
 * Checksums of a directory, done by a mesh of processes: each node enqueues a share of the files, all consume,
 * and the digests come back through a second queue. This file is the starter, which is no member of the mesh.
 */
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { systemRandom } from "@klatsch/kit";
import { check } from "./check.ts";
import { listFiles } from "./files.ts";
import { count, Progress, summary } from "./report.ts";
import { run } from "./run.ts";

const USAGE = `usage: npm start [-- [directory] [--nodes 3] [--kill] [--seed N]]

  directory   what to sum; by default this repository's node_modules
  --nodes     processes in the mesh, 1 to 15; each message is kept by 3 of them, or by 1 if there are fewer
  --kill      kill one node (SIGKILL) once half of the results are there; needs 3 nodes
  --seed      chooses that node; printed by each run with --kill`;

/** Lines of a list that are worth printing. */
const LINES_MAX = 20;

class UsageError extends Error {}

interface Options {
  readonly directory: string;
  readonly nodes: number;
  readonly killSeed: number | undefined;
}

function parseOptions(args: readonly string[]): Options | "help" {
  const { values, positionals } = parseStrictly(args);
  if (values.help === true) return "help";
  const nodes = wholeNumber("--nodes", values.nodes, 1, 15) ?? 3;
  const seed = wholeNumber("--seed", values.seed, 0, Number.MAX_SAFE_INTEGER);
  if (positionals.length > 1) throw new UsageError("one directory, please");
  if (values.kill === true && nodes < 3) {
    throw new UsageError(
      "--kill needs at least 3 nodes: with fewer, the dead one's disk may be the only one",
    );
  }
  const [directory] = positionals;
  return {
    // npm runs scripts in the package's directory and tells where it was called.
    directory:
      directory === undefined
        ? fileURLToPath(new URL("../../../node_modules", import.meta.url))
        : resolve((process.env.npm_lifecycle_event && process.env.INIT_CWD) || ".", directory),
    nodes,
    killSeed: values.kill === true ? (seed ?? systemRandom.uint32()) : undefined,
  };
}

function parseStrictly(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        nodes: { type: "string" },
        kill: { type: "boolean" },
        seed: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    });
  } catch (error) {
    const [sentence] = (error as Error).message.split(". ");
    throw new UsageError(sentence);
  }
}

function wholeNumber(name: string, text: string | undefined, min: number, max: number): number | undefined {
  if (text === undefined) return undefined;
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw new UsageError(`${name} must be a whole number from ${min} to ${max}, not ${JSON.stringify(text)}`);
}

/** The whole job. Resolves with whether every file was done and is right. */
async function checksum({ directory, nodes, killSeed }: Options, signal: AbortSignal): Promise<boolean> {
  const { files, problems } = await listFiles(directory).catch((error: unknown) => {
    throw new UsageError(`cannot list ${directory}: ${(error as Error).message}`);
  });
  console.log(`${count(files.length)} files below ${directory}, ${nodes} node${nodes === 1 ? "" : "s"}`);
  if (killSeed !== undefined) console.log(`one node will be killed, --seed ${killSeed}`);

  const hashing = new Progress("summing ", files.length);
  const report = await run({
    directory,
    files,
    nodes,
    killSeed,
    signal,
    onProgress: (done, bytes) => hashing.show(done, bytes),
    say: (line) => hashing.say(line),
  });
  const { tally } = report;
  hashing.end(
    tally.doneCount,
    [...tally.byNode.values()].reduce((sum, node) => sum + node.bytes, 0),
    report.seconds,
  );

  const checking = new Progress("checking", files.length);
  const faults = await check(directory, files, tally, checking, signal);
  console.log(`\n${summary(report)}`);
  list("directories could not be listed", problems);
  list("files are missing or not right", faults);
  list("nodes ended by themselves", report.casualties);
  if (faults.length === 0) console.log(`all ${count(files.length)} digests are right`);
  return problems.length + faults.length + report.casualties.length === 0;
}

function list(title: string, lines: readonly string[]): void {
  if (lines.length === 0) return;
  console.log(`\n${count(lines.length)} ${title}:`);
  for (const line of lines.slice(0, LINES_MAX)) console.log(`  ${line}`);
  if (lines.length > LINES_MAX) console.log(`  … and ${count(lines.length - LINES_MAX)} more`);
}

async function main(): Promise<number> {
  const interrupted = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    // Once: whoever presses Ctrl-C again means it.
    process.once(name, () => interrupted.abort(new Error(`stopped by ${name}`)));
  }
  try {
    const options = parseOptions(process.argv.slice(2));
    if (options === "help") {
      console.log(USAGE);
      return 0;
    }
    return (await checksum(options, interrupted.signal)) ? 0 : 1;
  } catch (error) {
    if (error instanceof UsageError) {
      console.error(`${error.message}\n"npm start -- --help" tells how to call this`);
      return 2;
    }
    console.error(`\n${error instanceof Error ? error.message : String(error)}`);
    return interrupted.signal.aborted ? 130 : 1;
  }
}

process.exitCode = await main();
