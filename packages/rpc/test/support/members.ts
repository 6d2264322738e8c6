import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { contract, method } from "@klatsch/rpc";
import { z } from "zod";

const text = z.string();
/** What a member process does. `mute <boot>`: without an answer from that process. */
export const work = contract({
  name: "work",
  methods: {
    plain: method({ input: text, output: text, access: "members" }),
    safe: method({ input: text, output: text, access: "members", idempotent: true }),
  },
});

/** What a member process tells. */
export type Report =
  | {
      readonly type: "started";
      readonly addresses: readonly string[];
      readonly id: string;
      readonly boot: number;
    }
  | { readonly type: "done"; readonly what: string };

const PROGRAM = fileURLToPath(new URL("member.ts", import.meta.url));

/** A real process on loopback that is a member; started again, it is the same member. */
export class Process implements AsyncDisposable {
  readonly #arguments: readonly string[];
  readonly #dataDir: string;
  #child: ChildProcess | undefined;
  #started: Extract<Report, { type: "started" }> | undefined;
  /** What it said that it has done. */
  readonly done: string[] = [];

  /** `neighbours`: names of those it may have a link with; none: all. */
  constructor(name: string, directory: string, neighbours: readonly string[] = []) {
    this.#dataDir = join(directory, name);
    this.#arguments = [name, this.#dataDir, neighbours.join(",")];
  }

  async start(bootstrap: readonly string[]): Promise<this> {
    const child = fork(PROGRAM, [...this.#arguments, ...bootstrap], {
      execArgv: ["--conditions=klatsch-source"],
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.#child = child;
    const started = Promise.withResolvers<void>();
    child.on("exit", () => started.reject(new Error("a member process has ended")));
    started.promise.catch(() => undefined); // It may end later, too.
    child.on("message", (report: Report) => {
      if (report.type === "done") this.done.push(report.what);
      else {
        this.#started = report;
        started.resolve();
      }
    });
    await started.promise;
    return this;
  }

  get addresses(): readonly string[] {
    return this.#started?.addresses ?? [];
  }

  get id(): string {
    return this.#started?.id ?? "";
  }

  get boot(): number {
    return this.#started?.boot ?? 0;
  }

  signal(signal: "SIGKILL" | "SIGSTOP" | "SIGCONT"): void {
    this.#child?.kill(signal);
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }

  /** What it has done, by what is on its disk. */
  async journal(): Promise<readonly string[]> {
    return (await readFile(join(this.#dataDir, "done"), "utf8")).trim().split("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}
