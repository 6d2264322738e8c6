import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Durability } from "@klatsch/queue";

/** What a member process is told. */
export type Command =
  /** As fast as is answered, or with a pause after each. */
  | { readonly type: "produce"; readonly inFlight: number; readonly pauseMs?: number }
  | { readonly type: "rest" }
  | { readonly type: "consume" }
  | { readonly type: "enqueueOnce"; readonly timeoutMs: number }
  | { readonly type: "leave" }
  | { readonly type: "counts" }
  | { readonly type: "inspect"; readonly id: string }
  | { readonly type: "peers" };

/** What a member process tells. */
export type Report =
  | { readonly type: "started"; readonly addresses: readonly string[]; readonly peerId: string }
  | { readonly type: "peers"; readonly count: number }
  | { readonly type: "counts"; readonly lanes: number; readonly weak: number; readonly moving: number }
  | { readonly type: "inspected"; readonly id: string; readonly holders: readonly string[] }
  | { readonly type: "enqueued"; readonly id: string }
  | { readonly type: "refused"; readonly code: string; readonly id: string | undefined }
  | { readonly type: "delivered"; readonly id: string; readonly epoch: number }
  | { readonly type: "acked"; readonly id: string }
  | { readonly type: "answered"; readonly code: string; readonly tookMs: number };

/** A report, by whom, and when (this process's monotonic clock, in milliseconds). */
export interface Entry {
  readonly name: string;
  readonly atMs: number;
  readonly report: Report;
}

const PROGRAM = fileURLToPath(new URL("member.ts", import.meta.url));

/** Real processes on loopback, each one mesh member, and the history of what they reported. */
export class Members implements AsyncDisposable {
  readonly history: Entry[] = [];
  /** Acknowledged enqueues that nobody was handed yet. */
  readonly missing = new Set<string>();
  readonly #delivered = new Set<string>();
  /** How often each (id, epoch) was handed out. */
  readonly holders = new Map<string, number>();
  acked = 0;
  readonly #directory: string;
  readonly #children = new Map<string, ChildProcess>();
  readonly #addresses = new Map<string, readonly string[]>();
  readonly #watchers = new Set<() => void>();

  readonly #durability: Durability;

  private constructor(directory: string, durability: Durability) {
    this.#directory = directory;
    this.#durability = durability;
  }

  static start(...names: readonly string[]): Promise<Members> {
    return Members.startWith("fsync", ...names);
  }

  static async startWith(durability: Durability, ...names: readonly string[]): Promise<Members> {
    const members = new Members(await mkdtemp(join(tmpdir(), "klatsch-members-")), durability);
    for (const name of names) await members.add(name);
    await members.meet();
    return members;
  }

  /** Starts a member, anew or from what its directory holds. */
  async add(name: string): Promise<void> {
    const bootstrap = [...this.#addresses.values()].flat();
    const child = fork(PROGRAM, [name, join(this.#directory, name), this.#durability, ...bootstrap], {
      execArgv: ["--conditions=klatsch-source"],
      stdio: ["ignore", "inherit", "inherit", "ipc"],
    });
    this.#children.set(name, child);
    const from = this.history.length;
    child.on("message", (report: Report) => {
      this.history.push({ name, atMs: performance.now(), report });
      this.#count(report);
      for (const watcher of this.#watchers) watcher();
    });
    const started = await this.next(name, "started", from);
    this.#addresses.set(name, started.addresses);
  }

  #count(report: Report): void {
    if (report.type === "acked") this.acked += 1;
    else if (report.type === "enqueued" && !this.#delivered.has(report.id)) this.missing.add(report.id);
    else if (report.type === "delivered") {
      this.missing.delete(report.id);
      this.#delivered.add(report.id);
      const key = `${report.id} ${report.epoch}`;
      this.holders.set(key, (this.holders.get(key) ?? 0) + 1);
    }
  }

  /** Waits until every running member sees all others. */
  async meet(): Promise<void> {
    const wanted = this.#children.size - 1;
    for (const name of this.#children.keys()) {
      for (let seen = -1; seen < wanted;) {
        const from = this.history.length;
        this.tell(name, { type: "peers" });
        seen = (await this.next(name, "peers", from)).count;
        if (seen < wanted) await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
  }

  tell(name: string, command: Command): void {
    this.#children.get(name)?.send(command);
  }

  /** Sends a signal to one member; SIGKILL also waits for its end. */
  async signal(name: string, signal: "SIGKILL" | "SIGSTOP" | "SIGCONT"): Promise<void> {
    const child = this.#children.get(name);
    if (child === undefined) throw new Error(`no member ${name} runs`);
    child.kill(signal);
    if (signal !== "SIGKILL") return;
    this.#children.delete(name);
    this.#addresses.delete(name);
    if (child.exitCode === null && child.signalCode === null) {
      await new Promise((resolve) => child.once("exit", resolve));
    }
  }

  /** What a member's queue kept is gone: the member comes back as itself, without its store. */
  async loseDisk(name: string): Promise<void> {
    await this.signal(name, "SIGKILL");
    await rm(join(this.#directory, name, "queue"), { recursive: true });
  }

  /** Asks `name` again and again until its answer is as wanted. */
  async poll<Type extends Report["type"]>(
    name: string,
    command: Command,
    type: Type,
    isWanted: (report: Extract<Report, { type: Type }>) => boolean,
    timeoutMs = 30_000,
  ): Promise<void> {
    for (const endMs = performance.now() + timeoutMs; ;) {
      const from = this.history.length;
      this.tell(name, command);
      const report = await this.next(name, type, from);
      if (isWanted(report)) return;
      if (performance.now() > endMs) throw new Error(`timed out: ${type} is ${JSON.stringify(report)}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** The first report of this kind after entry `from`. */
  async next<Type extends Report["type"]>(
    name: string,
    type: Type,
    from: number,
  ): Promise<Extract<Report, { type: Type }>> {
    const find = (): Entry | undefined =>
      this.history.slice(from).find((entry) => entry.name === name && entry.report.type === type);
    await this.until(`${name} reports ${type}`, () => find() !== undefined);
    return find()?.report as Extract<Report, { type: Type }>;
  }

  reports<Type extends Report["type"]>(
    type: Type,
  ): readonly (Omit<Entry, "report"> & { readonly report: Extract<Report, { type: Type }> })[] {
    return this.history.filter((entry) => entry.report.type === type) as never;
  }

  /** Waits until `condition` holds, looking at each report. */
  async until(what: string, condition: () => boolean, timeoutMs = 30_000): Promise<void> {
    if (condition()) return;
    await new Promise<void>((resolve, reject) => {
      const end = (then: () => void): void => {
        this.#watchers.delete(look);
        clearTimeout(timer);
        then();
      };
      const look = (): void => {
        if (condition()) end(resolve);
      };
      const timer = setTimeout(() => end(() => reject(new Error(`timed out: ${what}`))), timeoutMs);
      this.#watchers.add(look);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const name of [...this.#children.keys()]) await this.signal(name, "SIGKILL");
    await rm(this.#directory, { recursive: true, force: true });
  }
}
