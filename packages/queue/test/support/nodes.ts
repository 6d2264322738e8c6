import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { createMesh } from "@klatsch/mesh";
import type { Mesh } from "@klatsch/mesh";
import { createQueues } from "@klatsch/queue";
import type { Queue, QueueInit, Queues, QueuesInit } from "@klatsch/queue";

/** One member with its queues, in this process. */
export interface Node {
  readonly name: string;
  readonly mesh: Mesh;
  readonly queues: Queues;
}

/** What all nodes are given beside mesh and directory. */
type Given = Partial<Omit<QueuesInit, "mesh" | "dataDir">>;

/** Members on loopback with data directories of their own; all of it is gone after `stop`. */
export class Nodes implements AsyncDisposable {
  readonly #directory: string;
  readonly #given: Given;
  readonly #nodes = new Map<string, Node>();

  private constructor(directory: string, given: Given) {
    this.#directory = directory;
    this.#given = given;
  }

  static async start(...args: readonly (string | Given)[]): Promise<Nodes> {
    const given = args.find((arg) => typeof arg !== "string") ?? {};
    const nodes = new Nodes(await mkdtemp(join(tmpdir(), "klatsch-queue-")), given);
    for (const name of args) if (typeof name === "string") await nodes.add(name);
    return nodes;
  }

  dataDir(name: string): string {
    return join(this.#directory, name);
  }

  get(name: string): Node {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new Error(`no node ${name} runs`);
    return node;
  }

  /** Starts a node that knows of no other: the next that is added brings them together. */
  async addAlone(
    name: string,
    bootstrap: readonly string[] = [],
    apart: readonly string[] = [],
  ): Promise<Node> {
    const mayLink = (peer: { readonly name: string }): boolean => !apart.includes(peer.name);
    const mesh = await createMesh({ name, bootstrap, mayLink, dataDir: this.dataDir(name) });
    const queues = await createQueues({ mesh, dataDir: this.dataDir(name), ...this.#given });
    const node = { name, mesh, queues };
    this.#nodes.set(name, node);
    return node;
  }

  /** Starts a node, anew or from what its directory holds, and waits until all see each other. `apart`: no link with these. */
  async add(name: string, apart: readonly string[] = []): Promise<Node> {
    const near = [...this.#nodes.values()].filter((one) => !apart.includes(one.name));
    const bootstrap = near.flatMap(({ mesh }) => [...mesh.addresses()]);
    const node = await this.addAlone(name, bootstrap, apart);
    const wanted = this.#nodes.size - 1;
    for (const one of this.#nodes.values()) {
      await until(`${one.name} sees ${wanted} others`, () => one.queues.stats().peers >= wanted);
    }
    return node;
  }

  async declare(name: string, init?: QueueInit): Promise<readonly Queue[]> {
    return await Promise.all([...this.#nodes.values()].map(({ queues }) => queues.declare(name, init)));
  }

  async end(name: string): Promise<void> {
    const { mesh, queues } = this.get(name);
    this.#nodes.delete(name);
    await queues.stop();
    await mesh.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const name of [...this.#nodes.keys()]) await this.end(name);
    await rm(this.#directory, { recursive: true, force: true });
  }
}

/** Waits for `condition`, looking again every few milliseconds; fails naming `what` after `timeoutMs`. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 20_000,
): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > endMs) throw new Error(`timed out: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
