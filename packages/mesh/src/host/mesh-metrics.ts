import { monitorEventLoopDelay } from "node:perf_hooks";
import { counter, gauge } from "@klatsch/kit";
import type { MetricFamily } from "@klatsch/kit";
import type { MemberMessage } from "../core/messages.ts";
import type { Member, MemberStatus, Mesh, MeshStats } from "../types.ts";
import type { Channels } from "./channels.ts";
import type { Links } from "./links.ts";
import { Traffic } from "./traffic.ts";
import type { Waiting } from "./traffic.ts";

/** What is looked at when somebody asks. */
interface MetricsView {
  readonly members: readonly Member[];
  readonly stats: MeshStats;
  readonly waiting: readonly Waiting[];
}

type Samples = MetricFamily["samples"];

const STATUSES: readonly MemberStatus[] = ["alive", "suspect", "dead", "stopped", "left"];
const LOOP_RESOLUTION_MS = 20;
const QUANTILES = [50, 99, 100] as const;

/** Counts what happens, and puts it into families when asked. */
export class MeshMetrics {
  readonly traffic: Traffic = new Traffic();
  readonly #sent = new Map<MemberMessage["type"], number>();
  readonly #received = new Map<MemberMessage["type"], number>();
  readonly #events = new Map<string, number>();
  #loop: ReturnType<typeof monitorEventLoopDelay> | undefined;

  sent(type: MemberMessage["type"]): void {
    this.#sent.set(type, (this.#sent.get(type) ?? 0) + 1);
  }

  received(type: MemberMessage["type"]): void {
    this.#received.set(type, (this.#received.get(type) ?? 0) + 1);
  }

  happened(event: string): void {
    this.#events.set(event, (this.#events.get(event) ?? 0) + 1);
  }

  families(
    mesh: Pick<Mesh, "members" | "stats">,
    links: Links | undefined,
    channels: Channels,
  ): MetricFamily[] {
    const view: MetricsView = {
      members: mesh.members(),
      stats: mesh.stats(),
      waiting: [...(links === undefined ? [] : [links.waiting()]), ...channels.waiting()],
    };
    return [
      ...this.#memberFamilies(view),
      ...linkFamilies(view),
      ...this.#trafficFamilies(view),
      this.#loopFamily(),
    ];
  }

  stop(): void {
    this.#loop?.disable();
  }

  #memberFamilies({ members }: MetricsView): MetricFamily[] {
    const count = (status: MemberStatus): number =>
      members.filter((member) => member.status === status).length;
    const messages = (direction: string, counts: ReadonlyMap<string, number>): Samples =>
      [...counts].map(([type, value]) => ({ labels: { type, direction }, value }));
    return [
      gauge(
        "klatsch_mesh_members",
        "Members by status, this node included.",
        STATUSES.map((status) => ({ labels: { status }, value: count(status) })),
      ),
      counter(
        "klatsch_mesh_events_total",
        "What this node saw happen: joined, suspected, refuted, died, stopped, left, forgotten, declaredDead, isolated, linkUp, linkDown.",
        [...this.#events].map(([event, value]) => ({ labels: { event }, value })),
      ),
      counter(
        "klatsch_mesh_messages_total",
        "Membership messages by type: a ping is a probe, or part of one.",
        [...messages("sent", this.#sent), ...messages("received", this.#received)],
      ),
    ];
  }

  #trafficFamilies({ waiting }: MetricsView): MetricFamily[] {
    const rows = this.traffic.rows();
    const both = (sent: "sentBytes" | "sentFrames", received: "receivedBytes" | "receivedFrames"): Samples =>
      rows.flatMap((row) => [
        { labels: { class: row.class, protocol: row.protocol, direction: "sent" }, value: row[sent] },
        { labels: { class: row.class, protocol: row.protocol, direction: "received" }, value: row[received] },
      ]);
    const queued = (what: "frames" | "bytes"): Samples =>
      waiting.map((each) => ({ labels: { class: each.class }, value: each[what] }));
    return [
      counter(
        "klatsch_mesh_bytes_total",
        "Bytes of frames, headers included, by class and protocol (a channel's name).",
        both("sentBytes", "receivedBytes"),
      ),
      counter(
        "klatsch_mesh_frames_total",
        "Frames by class and protocol.",
        both("sentFrames", "receivedFrames"),
      ),
      gauge("klatsch_mesh_queue_frames", "Frames that wait for a peer, by class.", queued("frames")),
      gauge("klatsch_mesh_queue_bytes", "Bytes that wait for a peer, by class.", queued("bytes")),
    ];
  }

  /** Measured from the first time somebody asks, and from one time to the next. */
  #loopFamily(): MetricFamily {
    const name = "klatsch_event_loop_delay_seconds";
    const help = "Delay of the event loop since it was last asked for, by quantile.";
    if (this.#loop === undefined) {
      this.#loop = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS });
      this.#loop.enable();
      return gauge(name, help, []);
    }
    const loop = this.#loop;
    const samples = QUANTILES.map((percent) => ({
      labels: { quantile: String(percent / 100) },
      // The histogram has how long a period took, not by how much it was late.
      value: Math.max(0, loop.percentile(percent) / 1e9 - LOOP_RESOLUTION_MS / 1e3),
    }));
    loop.reset();
    return gauge(name, help, samples);
  }
}

function linkFamilies({ members, stats }: MetricsView): MetricFamily[] {
  const over = (conduit: string): number => members.filter((member) => member.conduit === conduit).length;
  const { connections, links: _links, tunnels, tunnelsCarried, bytesCarried, ...counted } = stats;
  return [
    gauge("klatsch_mesh_links", "Direct links by what they run over.", [
      ...["tcp", "unix", "memory"].map((conduit) => ({ labels: { conduit }, value: over(conduit) })),
    ]),
    gauge("klatsch_mesh_connections", "Connections, those included that are no links (yet).", connections),
    gauge("klatsch_mesh_tunnel_ends", "Peers that only a tunnel reaches.", tunnels),
    gauge("klatsch_mesh_tunnels_carried", "Tunnels that run through this node.", tunnelsCarried),
    counter("klatsch_mesh_tunnel_bytes_total", "Bytes carried in tunnels of others.", bytesCarried),
    counter(
      "klatsch_mesh_faults_total",
      "What went wrong, by kind; see MeshStats.",
      Object.entries(counted).map(([kind, value]) => ({ labels: { kind }, value })),
    ),
  ];
}
