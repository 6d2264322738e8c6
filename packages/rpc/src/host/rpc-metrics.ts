import { counter, gauge } from "@klatsch/kit";
import type { MetricFamily } from "@klatsch/kit";

import type { RpcStats } from "../types.ts";
import type { Profile } from "./profile.ts";

/** All numbers of one node's rpc. */
export function rpcFamilies(
  { pending, running, links, ...faults }: RpcStats,
  { client, server }: { readonly client: Profile; readonly server: Profile },
): readonly MetricFamily[] {
  return [
    {
      name: "klatsch_rpc_call_seconds",
      help: "Time of calls by method, as their caller and as their server saw it.",
      type: "histogram",
      samples: [...client.histogram("client"), ...server.histogram("server")],
    },
    counter("klatsch_rpc_call_errors_total", "Calls that ended with an error.", [
      ...client.errors("client"),
      ...server.errors("server"),
    ]),
    gauge("klatsch_rpc_pending", "Calls of this node that wait for an answer.", pending),
    gauge("klatsch_rpc_running", "Handlers that run here.", running),
    gauge("klatsch_rpc_sessions", "Sessions with other nodes: one for each class and peer.", links),
    counter(
      "klatsch_rpc_faults_total",
      "What was refused, by kind; see RpcStats.",
      Object.entries(faults).map(([kind, value]) => ({ labels: { kind }, value })),
    ),
  ];
}
