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

interface Init extends Partial<Omit<RpcInit, "mesh">>, Pick<MeshInit, "cloud" | "tags"> {
  /** Names of those it has a direct link with. Default: all that run. */
  readonly neighbours?: readonly string[];
}

/** Members on loopback with data directories of their own; all of it is gone after `stop`. */
export class Nodes implements AsyncDisposable {
  readonly #directory: string;
  readonly #nodes = new Map<string, Node>();
  /** Neighbours that each node has. */
  readonly #linksOf = new Map<string, number>();

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

  /** Starts a node and waits until its neighbours have a session of each class with it, and all know of it. */
  async add(name: string, { cloud, tags, neighbours, ...init }: Init = {}): Promise<Node> {
    const others = this.all();
    const near = others.filter((one) => neighbours?.includes(one.name) ?? true);
    const bootstrap = near.flatMap(({ mesh }) => [...mesh.addresses()]);
    const mayLink =
      neighbours === undefined ? undefined : (peer: { name: string }) => neighbours.includes(peer.name);
    const dataDir = join(this.#directory, name);
    const mesh = await createMesh({ name, bootstrap, dataDir, cloud, tags, mayLink });
    const rpc = createRpc({ mesh, ...init });
    const node = { name, id: mesh.peerId, mesh, rpc };
    this.#nodes.set(name, node);
    for (const one of near) this.#linksOf.set(one.name, (this.#linksOf.get(one.name) ?? 0) + 1);
    this.#linksOf.set(name, near.length);
    await until(`${name} has its links`, () =>
      [node, ...near].every((one) => one.rpc.stats().links >= 3 * (this.#linksOf.get(one.name) ?? 0)),
    );
    const members = this.#nodes.size;
    await Promise.all(this.all().map((one) => one.mesh.waitFor({ members, timeoutMs: 10_000 })));
    return node;
  }

  async end(name: string): Promise<void> {
    const { mesh, rpc } = this.get(name);
    this.#nodes.delete(name);
    this.#linksOf.clear(); // Whoever joins later is awaited by what it has itself.
    await rpc.stop({ timeoutMs: 0 });
    await mesh.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const name of [...this.#nodes.keys()]) await this.end(name);
    await rm(this.#directory, { recursive: true, force: true });
  }
}

/** Waits for `condition`, looking again every few milliseconds; fails naming `what` after `timeoutMs`. */
export async function until(what: string, condition: () => boolean, timeoutMs = 20_000): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > endMs) throw new Error(`timed out: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
