import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { createMesh } from "@klatsch/mesh";
import type { Mesh, MeshInit } from "@klatsch/mesh";
import { createRpc } from "@klatsch/rpc";
import type { Rpc, RpcInit } from "@klatsch/rpc";

/** One member with its rpc, in this process. */
export interface Node {
  readonly name: string;
  readonly id: string;
  readonly mesh: Mesh;
  readonly rpc: Rpc;
}

type Init = Partial<Omit<RpcInit, "mesh">> & Pick<MeshInit, "cloud" | "tags">;

/** Members on loopback with data directories of their own; all of it is gone after `stop`. */
export class Nodes implements AsyncDisposable {
  readonly #directory: string;
  readonly #nodes = new Map<string, Node>();

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async start(...names: readonly string[]): Promise<Nodes> {
    const nodes = new Nodes(await mkdtemp(join(tmpdir(), "klatsch-rpc-")));
    for (const name of names) await nodes.add(name);
    return nodes;
  }

  get(name: string): Node {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new Error(`no node ${name} runs`);
    return node;
  }

  all(): readonly Node[] {
    return [...this.#nodes.values()];
  }

  /** Starts a node and waits until all have a session of each class with it. */
  async add(name: string, { cloud, tags, ...init }: Init = {}): Promise<Node> {
    const bootstrap = this.all().flatMap(({ mesh }) => [...mesh.addresses()]);
    const mesh = await createMesh({ name, bootstrap, dataDir: join(this.#directory, name), cloud, tags });
    const rpc = createRpc({ mesh, ...init });
    const node = { name, id: mesh.peerId, mesh, rpc };
    this.#nodes.set(name, node);
    await until(`${name} sees all`, () =>
      this.all().every((one) => one.rpc.stats().links === 3 * (this.#nodes.size - 1)),
    );
    return node;
  }

  async end(name: string): Promise<void> {
    const { mesh, rpc } = this.get(name);
    this.#nodes.delete(name);
    await rpc.stop();
    await mesh.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const name of [...this.#nodes.keys()]) await this.end(name);
    await rm(this.#directory, { recursive: true, force: true });
  }
}

/** Waits for `condition`, looking again every few milliseconds; fails naming `what` after `timeoutMs`. */
export async function until(what: string, condition: () => boolean, timeoutMs = 10_000): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > endMs) throw new Error(`timed out: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
