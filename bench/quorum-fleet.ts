/** Nodes of `quorum-node.ts`, joined. */
import type { Durability } from "@klatsch/queue";
import type { BenchNode } from "./harness.ts";
import type { QuorumCommands } from "./quorum-node.ts";

export type Fleet = readonly BenchNode<QuorumCommands>[];

interface Setup {
  readonly durability?: Durability;
  readonly buffersAsHeap?: boolean;
}

/** All nodes up, and each sees the queues of all others. */
export async function join(fleet: Fleet, setup: Setup = {}): Promise<void> {
  let bootstrap: readonly string[] = [];
  for (const node of fleet) {
    const { name, dataDir } = node;
    const addresses = await node.call("start", { name, dataDir, bootstrap, ...setup });
    if (bootstrap.length === 0) bootstrap = addresses;
  }
  await Promise.all(fleet.map((node) => node.call("seeOthers", { others: fleet.length - 1 })));
}

/** The first node. */
export function producerOf(fleet: Fleet): BenchNode<QuorumCommands> {
  const [producer] = fleet;
  if (producer === undefined) throw new Error("no nodes");
  return producer;
}
