import { spawn } from "node:child_process";
import type { ChildProcessWithoutNullStreams } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Client } from "../src/client.ts";
import { socketPath } from "../src/config.ts";

const MAIN = fileURLToPath(new URL("../src/main.ts", import.meta.url));
const FLAGS = ["--conditions=klatsch-source", "--disable-warning=ExperimentalWarning"];
const WAIT_MS_MAX = 20_000;
const POLL_MS = 20;

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export function launch(...args: readonly string[]): ChildProcessWithoutNullStreams {
  return spawn(process.execPath, [...FLAGS, MAIN, ...args]);
}

/** Runs a command to its end. */
export async function run(args: readonly string[], input = ""): Promise<Ended> {
  const child = launch(...args);
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (data: Buffer) => (stdout += data.toString()));
  child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
  child.stdin.on("error", () => undefined); // It may end without reading.
  child.stdin.end(input);
  const [code] = (await once(child, "close")) as [number | null];
  return { code, stdout, stderr };
}

/** Runs a command whose output goes into the file at `path`. */
export async function runInto(path: string, args: readonly string[]): Promise<Omit<Ended, "stdout">> {
  await using file = await open(path, "w");
  const child = spawn(process.execPath, [...FLAGS, MAIN, ...args], { stdio: ["ignore", file.fd, "pipe"] });
  let stderr = "";
  child.stderr?.on("data", (data: Buffer) => (stderr += data.toString()));
  const [code] = (await once(child, "close")) as [number | null];
  return { code, stderr };
}

/** Asks again and again until the answer is yes. */
export async function until(what: string, ask: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + WAIT_MS_MAX;
  while (!(await ask())) {
    if (performance.now() > deadline) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** A `klatsch up`. */
export class NodeProcess {
  readonly name: string;
  readonly dataDir: string;
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #closed: Promise<unknown[]>;
  stdout = "";
  stderr = "";

  constructor(name: string, dataDir: string, bootstrap: readonly string[], flags: readonly string[]) {
    this.name = name;
    this.dataDir = dataDir;
    const join = bootstrap.length === 0 ? [] : ["--bootstrap", ...bootstrap];
    this.#child = launch("up", "--name", name, "--data", dataDir, ...join, ...flags);
    this.#child.stdout.on("data", (data: Buffer) => (this.stdout += data.toString()));
    this.#child.stderr.on("data", (data: Buffer) => (this.stderr += data.toString()));
    this.#closed = once(this.#child, "close");
  }

  get socket(): string {
    return socketPath({ data: this.dataDir });
  }

  /** Waits until it says that it is up, and gives its addresses. */
  async up(): Promise<readonly string[]> {
    await until(`${this.name} is up: ${this.stderr}`, () =>
      Promise.resolve(this.stdout.includes("commands by")),
    );
    return this.stdout.match(/\/ip4\/\S+/g) ?? [];
  }

  async ask<Result>(question: (client: Client) => Promise<Result>): Promise<Result> {
    await using client = await Client.connect(this.socket);
    return await question(client);
  }

  /** Stops it as a debugger does, until the returned function is called. */
  freeze(): () => void {
    this.#child.kill("SIGSTOP");
    return () => void this.#child.kill("SIGCONT");
  }

  async signal(signal: NodeJS.Signals): Promise<number | null> {
    this.#child.kill(signal);
    return await this.exitCode();
  }

  async exitCode(): Promise<number | null> {
    const [code] = (await this.#closed) as [number | null];
    return code;
  }
}

/** Nodes by name, gone at the end with all they wrote. */
export class Nodes implements AsyncDisposable {
  readonly directory: string;
  readonly #all: NodeProcess[] = [];

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async create(): Promise<Nodes> {
    return new Nodes(await mkdtemp(join(tmpdir(), "klatsch-node-")));
  }

  start(name: string, bootstrap: readonly string[] = [], ...flags: readonly string[]): NodeProcess {
    const node = new NodeProcess(name, join(this.directory, name), bootstrap, flags);
    this.#all.push(node);
    return node;
  }

  /** Waits until each of `nodes` has a link to each other, and sees its queues. */
  static async meet(...nodes: readonly NodeProcess[]): Promise<void> {
    const others = nodes.length - 1;
    for (const node of nodes) {
      await node.ask((client) =>
        until(`${node.name} sees ${others} others`, async () => {
          const { mesh, queues } = await client.call("stats", {});
          return mesh.links === others && queues.peers === others;
        }),
      );
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#all.map((node) => node.signal("SIGKILL")));
    await rm(this.directory, { recursive: true, force: true });
  }
}
