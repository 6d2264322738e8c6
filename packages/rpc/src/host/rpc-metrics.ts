import type { MetricFamily } from "@klatsch/kit";

import type { RpcStats } from "../types.ts";
import type { Profile } from "./profile.ts";

type Kind = "counter" | "gauge" | "histogram";

/** All numbers of one node's rpc. */
export function rpcFamilies(
  { pending, running, links, ...faults }: RpcStats,
  { client, server }: { readonly client: Profile; readonly server: Profile },
): readonly MetricFamily[] {
  const family = (
    name: string,
    help: string,
    type: Kind,
    samples: MetricFamily["samples"],
  ): MetricFamily => ({
    name: `klatsch_rpc_${name}`,
    help,
    type,
    samples,
  });
  const one = (value: number): MetricFamily["samples"] => [{ labels: {}, value }];
  return [
    family(
      "call_seconds",
      "Time of calls by method, as their caller and as their server saw it.",
      "histogram",
      [...client.histogram("client"), ...server.histogram("server")],
    ),
    family("call_errors_total", "Calls that ended with an error.", "counter", [
      ...client.errors("client"),
      ...server.errors("server"),
    ]),
    family("pending", "Calls of this node that wait for an answer.", "gauge", one(pending)),
    family("running", "Handlers that run here.", "gauge", one(running)),
    family("sessions", "Sessions with other nodes: one for each class and peer.", "gauge", one(links)),
    family(
      "faults_total",
      "What was refused, by kind; see RpcStats.",
      "counter",
      Object.entries(faults).map(([kind, value]) => ({ labels: { kind }, value })),
    ),
  ];
}
