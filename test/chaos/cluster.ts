/** The node processes of a run, and what is done to them. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { HistoryWriter } from "./history.ts";
import type { Network } from "./network.ts";
import type { Command, NodeInit, Reply } from "./node.ts";
import { NODES } from "./schedule.ts";
import type { NodeName } from "./schedule.ts";

const SCRIPT = fileURLToPath(new URL("node.ts", import.meta.url));
/** Enqueues a second of those that produce. */
const PRODUCES: Readonly<Partial<Record<NodeName, number>>> = { a: 20, b: 20, e: 20 };
const CONSUMES: ReadonlySet<NodeName> = new Set(["b", "c", "d", "e"]);
/** What a record in a journal file begins with. */
const RECORD_MAGIC = 0x4b4ad19e;
const STARTING_MS = 60_000;

interface Place {
  child: ChildProcess | undefined;
  addresses: readonly string[];
  run: number;
  /** Whether its end is wanted. */
  killed: boolean;
}

export class Cluster {
  readonly historyDir: string;
  /** How often a node ended by itself, with why. */
  readonly ends: string[] = [];
  readonly #directory: string;
  readonly #network: Network;
  readonly #seed: number;
  readonly #note: HistoryWriter["write"];
  readonly #places = new Map<NodeName, Place>();

  constructor(init: {
    directory: string;
    historyDir: string;
    network: Network;
    seed: number;
    note: HistoryWriter["write"];
  }) {
    this.historyDir = init.historyDir;
    this.#directory = init.directory;
    this.#network = init.network;
    this.#seed = init.seed;
    this.#note = init.note;
  }

  async startAll(): Promise<void> {
    for (const node of NODES) await this.start(node);
    for (const node of NODES)
      while ((await this.ask(node, { type: "sees" })) !== NODES.length - 1) await delay(100);
  }

  #place(node: NodeName): Place {
    let place = this.#places.get(node);
    if (place === undefined) {
      place = { child: undefined, addresses: [], run: -1, killed: false };
      this.#places.set(node, place);
    }
    return place;
  }

  async start(node: NodeName): Promise<void> {
    const place = this.#place(node);
    place.run += 1;
    place.killed = false;
    const others = [...this.#places].filter(([other]) => other !== node);
    const init: NodeInit = {
      name: node,
      run: place.run,
      seed: this.#seed,
      listen: this.#network.listenAddress(node),
      bootstrap: others.flatMap(([, { addresses }]) => addresses),
      dataDir: this.#dataDir(node),
      historyDir: this.historyDir,
      produces: PRODUCES[node] ?? 0,
      consumes: CONSUMES.has(node),
    };
    mkdirSync(init.dataDir, { recursive: true });
    const program = [process.execPath, ...process.execArgv, SCRIPT, JSON.stringify(init)];
    const [command = "", ...args] = [...this.#network.at(node), ...program];
    const child = spawn(command, args, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    place.child = child;
    child.on("error", () => undefined); // Of a send to a process that has just died.
    child.on("exit", (code, signal) => this.#onExit(node, place, child, String(signal ?? code)));
    const limit = AbortSignal.timeout(STARTING_MS);
    for (;;) {
      const [reply] = (await Promise.race([
        once(child, "message", { signal: limit }),
        once(child, "exit", { signal: limit }).then(() => [undefined]),
      ])) as [Reply | undefined];
      if (reply === undefined) return; // It is started again by `#onExit`, or killed on purpose.
      if (reply.type === "started") {
        place.addresses = reply.value as string[];
        return;
      }
    }
  }

  #onExit(node: NodeName, place: Place, child: ChildProcess, why: string): void {
    if (place.child !== child) return;
    place.child = undefined;
    if (place.killed) return;
    // A store that failed, because its end is gone, ends its node: whoever runs one starts it again.
    this.ends.push(`${node} ended by itself: ${why}`);
    this.#note({ what: "note", text: `${node} ended by itself: ${why}` });
    void this.start(node);
  }

  #dataDir(node: NodeName): string {
    return join(this.#directory, node);
  }

  async kill(node: NodeName): Promise<void> {
    const place = this.#place(node);
    place.killed = true;
    const { child } = place;
    if (child === undefined) return;
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  }

  signal(node: NodeName, signal: "SIGSTOP" | "SIGCONT"): void {
    this.#place(node).child?.kill(signal);
    this.#note({ what: signal === "SIGSTOP" ? "stopped" : "continued", node });
  }

  /** A node that does not run loses its last `batches`. */
  truncate(node: NodeName, batches: number): void {
    cutTail(join(this.#dataDir(node), "queue", "journal"), batches);
  }

  tell(node: NodeName, command: Command): void {
    this.#place(node).child?.send(command, () => undefined);
  }

  /** `undefined` if the node has no answer in time. */
  async ask(node: NodeName, command: Command, waitMs = 30_000): Promise<unknown> {
    const { child } = this.#place(node);
    if (child?.connected !== true) return undefined;
    const answered = new Promise<unknown>((resolve) => {
      const onMessage = (reply: Reply): void => {
        if (reply.type !== command.type) return;
        child.off("message", onMessage);
        resolve(reply.value);
      };
      child.on("message", onMessage);
    });
    child.send(command, () => undefined);
    return await Promise.race([answered, delay(waitMs, undefined, { ref: false })]);
  }

  async end(): Promise<void> {
    await Promise.all(NODES.map((node) => this.kill(node)));
  }
}

/** Wipes the last batches out of the journal of a store that nobody has open, as if they had never reached its disk. */
function cutTail(directory: string, count: number): void {
  const found: { readonly path: string; readonly at: number; readonly no: number }[] = [];
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    const bytes = readFileSync(path);
    for (let at = 0; at + 16 <= bytes.length; at += 64) {
      if (bytes.readUInt32BE(at) === RECORD_MAGIC)
        found.push({ path, at, no: Number(bytes.readBigUInt64LE(at + 8)) });
    }
  }
  for (const { path, at } of found.toSorted((a, b) => b.no - a.no).slice(0, count)) {
    const file = openSync(path, "r+");
    writeSync(file, Buffer.alloc(64), 0, 64, at);
    closeSync(file);
  }
}
