import type { Mesh } from "@klatsch/mesh";
import { z } from "zod";

import { contract, method } from "./contract.ts";
import type { Contract, Implementation, Method } from "./contract.ts";
import type { Served } from "./host/registry.ts";
import type { Schema } from "./schema.ts";
import type { Rpc, RpcStats } from "./types.ts";

/** What a node says of itself. */
export interface NodeInfo {
  readonly peerId: string;
  readonly name: string;
  readonly cloud: string;
  readonly boot: number;
  /** Version of Node.js. */
  readonly node: string;
}

/** A method of {@link nodeContract}: nothing goes in. */
export type Ask<Out> = Method<Schema<undefined>, Schema<Out>, "none">;

/** The methods of {@link nodeContract}. */
export type NodeMethods = {
  readonly ping: Ask<number>;
  readonly info: Ask<NodeInfo>;
  readonly stats: Ask<RpcStats>;
  /** Milliseconds since the process began. */
  readonly uptime: Ask<number>;
  /** Names of all methods offered here. */
  readonly methods: Ask<readonly string[]>;
};

const nothing = z.undefined();
const count = z.number();
const info: z.ZodType<NodeInfo, NodeInfo> = z.object({
  peerId: z.string(),
  name: z.string(),
  cloud: z.string(),
  boot: count,
  node: z.string(),
});
const stats: z.ZodType<RpcStats, RpcStats> = z.object({
  pending: count,
  running: count,
  links: count,
  badFrames: count,
  notFound: count,
  denied: count,
  castsDropped: count,
  valuesDenied: count,
  valuesDropped: count,
});

function ask<Out>(output: Schema<Out>): Ask<Out> {
  return method({ input: nothing, output, access: "members", idempotent: true, class: "high" });
}

/** Served by every node that has rpc. `ping` answers with the node's boot. */
export const nodeContract: Contract<NodeMethods> = contract({
  name: "klatsch.node",
  methods: {
    ping: ask(count),
    info: ask(info),
    stats: ask(stats),
    uptime: ask(count),
    methods: ask<readonly string[]>(z.array(z.string())),
  },
});

export function nodeMethods(
  mesh: Mesh,
  rpc: Rpc,
  served: () => readonly Served[],
): Implementation<NodeMethods> {
  return {
    ping: () => mesh.boot,
    info: () => ({
      peerId: mesh.peerId,
      name: mesh.name,
      cloud: mesh.cloud,
      boot: mesh.boot,
      node: process.version,
    }),
    stats: () => rpc.stats(),
    uptime: () => process.uptime() * 1_000,
    methods: () => served().map(({ name }) => name),
  };
}
