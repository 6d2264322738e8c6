import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SeededRandom, randomBelow } from "@klatsch/kit";
import { readable } from "./files.ts";
import { NodeProcess } from "./node-process.ts";
import { nowMs } from "./protocol.ts";
import type { Counters } from "./protocol.ts";
import { Tally } from "./tally.ts";

/** How long the nodes have to find each other, and to finish, in milliseconds. */
const START_MS = 30_000;
const STOP_MS = 10_000;
/** Without any progress for this long the run is over, in milliseconds. */
const STALLED_MS = 60_000;

export interface RunOptions {
  readonly directory: string;
  readonly files: readonly string[];
  readonly nodes: number;
  /** Chooses the node that dies by SIGKILL at half of the results. */
  readonly killSeed: number | undefined;
  /** Ends the run early; it rejects with the reason. */
  readonly signal: AbortSignal;
  /** Called once the nodes are ready, and then several times a second while files are being done. */
  readonly onProgress: (doneCount: number, bytesRead: number) => void;
  /** Tells people something worth a line. */
  readonly say: (line: string) => void;
}

export interface RunReport {
  readonly tally: Tally;
  readonly seconds: number;
  readonly nodes: readonly { readonly name: string; readonly counters: Counters; readonly killed: boolean }[];
  /** Jobs of the killed node that were enqueued again. */
  readonly enqueuedAgain: number;
  /** Nodes that ended though nobody asked them to. */
  readonly casualties: readonly string[];
}

/** Starts the nodes, has them do all files, stops them. Whatever happens, no process and no data is left. */
export async function run(options: RunOptions): Promise<RunReport> {
  const names = Array.from({ length: options.nodes }, (_, index) => `node-${index + 1}`);
  const dataDir = await mkdtemp(join(tmpdir(), "klatsch-checksum-"));
  const nodes = names.map((name) => new NodeProcess(name));
  try {
    await abortable(startAll(nodes, options.directory, dataDir), options.signal);
    const work = new Work(nodes, options);
    await abortable(work.run(), options.signal);
    await abortable(stopAll(nodes, options.say), options.signal);
    return work.report();
  } finally {
    await Promise.all(nodes.map((node) => node.kill()));
    await rm(dataDir, { recursive: true, force: true });
  }
}

/** The first node's addresses are all that the others need to find the mesh. */
async function startAll(nodes: readonly NodeProcess[], directory: string, dataDir: string): Promise<void> {
  let bootstrap: readonly string[] = [];
  for (const node of nodes) {
    const { name } = node;
    node.send({
      type: "setup",
      name,
      dataDir: join(dataDir, name),
      directory,
      bootstrap,
      nodes: nodes.length,
    });
    if (bootstrap.length === 0) bootstrap = (await node.hear("listening", START_MS)).addresses;
  }
  await Promise.all(nodes.map((node) => node.hear("ready", START_MS)));
}

/** In two steps, because a node that finishes its messages needs the others for its quorums. */
async function stopAll(nodes: readonly NodeProcess[], say: RunOptions["say"]): Promise<void> {
  const alive = nodes.filter((node) => node.isAlive);
  for (const node of alive) node.send({ type: "drain" });
  const drained = await Promise.allSettled(alive.map((node) => node.hear("drained", STOP_MS)));
  for (const each of drained) if (each.status === "rejected") say((each.reason as Error).message);
  for (const node of alive) node.send({ type: "stop" });
  await within(Promise.all(alive.map((node) => node.ended)), STOP_MS);
}

/** The files on their way through the queues. */
class Work {
  readonly #options: RunOptions;
  readonly #nodes: readonly NodeProcess[];
  readonly #tally: Tally;
  /** Per node, the files handed to it of which it has not said that a quorum has them. */
  readonly #outstanding = new Map<NodeProcess, Set<number>>();
  readonly #casualties: string[] = [];
  readonly #finished = Promise.withResolvers<void>();
  #victim: NodeProcess | undefined;
  #enqueuedAgain = 0;
  #startedAt = 0;
  /** 0 while the work goes on. */
  #endedAt = 0;
  #progressAt = 0;
  #progress = "";

  constructor(nodes: readonly NodeProcess[], options: RunOptions) {
    this.#nodes = nodes;
    this.#options = options;
    this.#tally = new Tally(
      options.files.length,
      nodes.map((node) => node.name),
    );
  }

  /** Resolves once every file has a result. */
  async run(): Promise<void> {
    this.#startedAt = nowMs();
    this.#progressAt = this.#startedAt;
    this.#watch();
    const timer = setInterval(() => this.#watch(), 100);
    try {
      for (const node of this.#nodes) {
        node.onReport = ({ enqueued, done }) => {
          for (const file of enqueued) this.#outstanding.get(node)?.delete(file);
          for (const result of done) this.#tally.add(result);
          this.#check();
        };
        void node.ended.then((how) => this.#onEnded(node, how));
      }
      this.#handOut([...this.#options.files.keys()], this.#nodes);
      this.#check();
      await this.#finished.promise;
    } finally {
      this.#endedAt = nowMs();
      clearInterval(timer);
      for (const node of this.#nodes) node.onReport = undefined;
    }
  }

  /** An equal share for each node. */
  #handOut(files: readonly number[], nodes: readonly NodeProcess[]): void {
    for (const [turn, node] of nodes.entries()) {
      const share = files.filter((_, index) => index % nodes.length === turn);
      const outstanding = this.#outstanding.get(node) ?? new Set();
      this.#outstanding.set(node, outstanding);
      for (const file of share) outstanding.add(file);
      const jobs = share.map((file) => ({ file, path: this.#options.files[file] ?? "" }));
      node.send({ type: "enqueue", jobs });
    }
  }

  #check(): void {
    const { doneCount, fileCount } = this.#tally;
    if (doneCount > 0 && doneCount >= fileCount / 2) this.#killOne();
    if (doneCount === fileCount) this.#finished.resolve();
  }

  #killOne(): void {
    const { killSeed, say } = this.#options;
    if (killSeed === undefined || this.#victim !== undefined) return;
    const victim = this.#nodes[randomBelow(new SeededRandom(killSeed), this.#nodes.length)];
    if (victim === undefined) return;
    this.#victim = victim;
    say(`killing ${victim.name} (process ${victim.pid}) after ${this.#tally.doneCount} results`);
    void victim.kill();
  }

  /**
   * What a quorum had acknowledged is safe: the survivors deliver it. What had not been acknowledged, or whose
   * acknowledgement died with the node, is enqueued again by somebody else.
   */
  #onEnded(node: NodeProcess, how: string): void {
    if (this.#endedAt > 0 || this.#options.signal.aborted) return;
    const lost = [...(this.#outstanding.get(node) ?? [])];
    this.#outstanding.delete(node);
    const files = lost.filter((file) => this.#tally.result(file) === undefined);
    const survivors = this.#nodes.filter((other) => other.isAlive);
    if (node !== this.#victim) {
      this.#casualties.push(`${node.name}: ${how}`);
      this.#options.say(`${node.name} has ended by itself: ${how}`);
    }
    if (survivors.length === 0) return this.#finished.reject(new Error("no node is left"));
    this.#enqueuedAgain += files.length;
    this.#handOut(files, survivors);
  }

  #watch(): void {
    const bytesRead = this.#nodes.reduce((sum, node) => sum + node.counters.bytesRead, 0);
    const { doneCount } = this.#tally;
    this.#options.onProgress(doneCount, bytesRead);
    const unacknowledged = [...this.#outstanding.values()].reduce((sum, files) => sum + files.size, 0);
    const progress = `${doneCount} ${bytesRead} ${unacknowledged}`;
    if (progress !== this.#progress) {
      this.#progress = progress;
      this.#progressAt = nowMs();
    } else if (nowMs() - this.#progressAt > STALLED_MS) {
      this.#finished.reject(new Error(this.#stalled()));
    }
  }

  #stalled(): string {
    const lines = [...this.#outstanding].map(
      ([node, files]) => `  ${node.name} has ${files.size} files that no quorum has acknowledged`,
    );
    const missing = this.#tally.missing();
    const examples = missing.slice(0, 10).map((file) => `  ${readable(this.#options.files[file] ?? "")}`);
    return [
      `nothing has happened for ${STALLED_MS / 1_000} s`,
      ...lines,
      `${missing.length} files have no result, such as`,
      ...examples,
    ].join("\n");
  }

  report(): RunReport {
    return {
      tally: this.#tally,
      seconds: (this.#endedAt - this.#startedAt) / 1_000,
      nodes: this.#nodes.map((node) => ({
        name: node.name,
        counters: node.counters,
        killed: node === this.#victim,
      })),
      enqueuedAgain: this.#enqueuedAgain,
      casualties: this.#casualties,
    };
  }
}

/** `work`, unless the signal comes first. */
async function abortable(work: Promise<void>, signal: AbortSignal): Promise<void> {
  const aborted = Promise.withResolvers<never>();
  const onAbort = (): void => aborted.reject(signal.reason as Error);
  signal.addEventListener("abort", onAbort);
  try {
    if (signal.aborted) onAbort();
    await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** Resolves when `work` does, or after `ms`: whoever has not ended by then is killed. */
async function within(work: Promise<unknown>, ms: number): Promise<void> {
  const timeout = Promise.withResolvers<void>();
  const timer = setTimeout(timeout.resolve, ms);
  await Promise.race([work, timeout.promise]);
  clearTimeout(timer);
}
