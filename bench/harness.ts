/** What the benchmarks share: nodes as processes, a table, JSON, and figures over several runs. */
import { execFileSync, fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { cpus, tmpdir, totalmem } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { Answer, Call } from "./serve.ts";

/** What a node process can be asked, by name. See `serve`. */
type Api = Record<string, (argument: never) => Promise<unknown>>;

/** A forked process that answers calls. */
export class BenchNode<Commands extends Api> {
  readonly name: string;
  /** Empty, and its own. */
  readonly dataDir: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #pending = new Map<number, PromiseWithResolvers<unknown>>();
  #lastCall = 0;
  #isStopping = false;
  #failure: Error | undefined;

  constructor(script: URL, name: string, dataDir: string, execArgv: readonly string[]) {
    this.name = name;
    this.dataDir = dataDir;
    // The parent's options (`--conditions=…`) hold for the nodes too.
    this.#child = fork(fileURLToPath(script), { execArgv: [...process.execArgv, ...execArgv] });
    this.#child.on("message", (message) => this.#onAnswer(message as Answer));
    this.#child.on("error", () => undefined); // A call to a process that has just died: `exit` tells.
    this.#ended = once(this.#child, "exit").then(([code, signal]: unknown[]) => {
      if (this.#isStopping) return;
      this.#failure = new Error(`${name} ended by itself: ${String(signal ?? code)}`);
      for (const { reject } of this.#pending.values()) reject(this.#failure);
    });
  }

  /** Rejects with what the node threw, or when it ends. */
  async call<Name extends keyof Commands & string>(
    command: Name,
    ...[argument]: Parameters<Commands[Name]>
  ): Promise<Awaited<ReturnType<Commands[Name]>>> {
    if (this.#failure !== undefined) throw this.#failure;
    this.#lastCall += 1;
    const id = this.#lastCall;
    const pending = Promise.withResolvers<unknown>();
    this.#pending.set(id, pending);
    const call: Call = { id, command, argument };
    this.#child.send(call);
    return (await pending.promise) as Awaited<ReturnType<Commands[Name]>>;
  }

  #onAnswer({ id, result, error }: Answer): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (error === undefined) pending?.resolve(result);
    else pending?.reject(new Error(`${this.name}: ${error}`));
  }

  /** Lets the process exit by itself (profiles are written then), and kills it if it does not. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    if (this.#child.connected) this.#child.disconnect();
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 10_000);
    await this.#ended;
    clearTimeout(timer);
  }
}

export interface FleetInit {
  /** What each node runs; it calls `serve`. */
  readonly script: URL;
  readonly nodes: number;
  /** Has the nodes write CPU profiles `<label>-<node>.cpuprofile` into `directory`. */
  readonly profile?: { readonly directory: string; readonly label: string } | undefined;
}

/** Runs `work` on fresh nodes with empty disks; both are gone afterwards, whatever happens. */
export async function withFleet<Commands extends Api, Result>(
  { script, nodes, profile }: FleetInit,
  work: (fleet: readonly BenchNode<Commands>[]) => Promise<Result>,
): Promise<Result> {
  const directory = await mkdtemp(join(tmpdir(), "klatsch-bench-"));
  if (profile !== undefined) mkdirSync(profile.directory, { recursive: true });
  const fleet = Array.from({ length: nodes }, (_, index) => {
    const name = `node-${index + 1}`;
    const flags =
      profile === undefined
        ? []
        : [
            "--cpu-prof",
            `--cpu-prof-dir=${resolve(profile.directory)}`,
            `--cpu-prof-name=${profile.label}-${name}.cpuprofile`,
          ];
    return new BenchNode<Commands>(script, name, join(directory, name), flags);
  });
  const interrupted = Promise.withResolvers<never>();
  const onSignal = (): void => interrupted.reject(new Error("interrupted"));
  process.once("SIGINT", onSignal);
  try {
    return await Promise.race([work(fleet), interrupted.promise]);
  } finally {
    process.off("SIGINT", onSignal);
    await Promise.all(fleet.map((node) => node.stop()));
    await rm(directory, { recursive: true, force: true });
  }
}

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly node: string;
}

export function machine(): Machine {
  const processors = cpus();
  return {
    cpu: processors[0]?.model.trim() ?? "unknown",
    cores: processors.length,
    memoryGiB: Math.round((totalmem() / 2 ** 30) * 10) / 10,
    node: process.version,
  };
}

/** The commit that was measured, and whether files differ from it; nothing outside a repository. */
export function commit(): { readonly commit?: string; readonly changed?: boolean } {
  const git = (...args: readonly string[]): string =>
    execFileSync("git", args, {
      cwd: import.meta.dirname,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
  try {
    const changed = git("status", "--porcelain", "--untracked-files=no") !== "";
    return { commit: git("rev-parse", "HEAD").trim(), changed };
  } catch {
    return {};
  }
}

/** Median of several runs, with the least and the most. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function spreadOf(values: readonly number[]): Spread {
  const ascending = values.toSorted((a, b) => a - b);
  return {
    median: percentile(ascending, 50),
    min: ascending[0] ?? Number.NaN,
    max: ascending.at(-1) ?? Number.NaN,
  };
}

/** The nearest-rank percentile of ascending values; `NaN` if there are none. */
export function percentile(ascending: readonly number[], percent: number): number {
  return ascending[Math.max(0, Math.ceil((ascending.length * percent) / 100) - 1)] ?? Number.NaN;
}

/** Rows below their headings: text to the left, numbers to the right. */
export function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = headings.map((heading, column) =>
    Math.max(heading.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const isText = headings.map((_, column) => rows.every((row) => !/^[\d.,-]/.test(row[column] ?? "")));
  return [headings, ...rows]
    .map((row) =>
      row
        .map((cell, column) =>
          isText[column] === true ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

export function writeJson(file: string, value: unknown): void {
  writeFileSync(file, `${JSON.stringify(value, undefined, 2)}\n`);
}

/** An application with messages of this size calls `countBuffersAsHeap`; with shorter ones that costs speed. */
export const BUFFERS_AS_HEAP_BYTES = 1_024;

/** `"1,64,512"` as numbers. */
export function wholeNumbers(option: string, text: string): number[] {
  return text.split(",").map((part) => {
    const value = /^\d+$/.test(part.trim()) ? Number(part) : 0;
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new Error(`--${option}: ${JSON.stringify(part)} is not a whole number from 1`);
    }
    return value;
  });
}
