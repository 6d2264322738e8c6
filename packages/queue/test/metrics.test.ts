import { renderMetrics } from "@klatsch/kit";
import { describe, expect, it } from "vitest";

import { Nodes, until } from "./support/nodes.ts";

/** The value of each sample, by its name and labels as they are written. */
function samplesOf(nodes: Nodes, name: string): Map<string, number> {
  const lines = renderMetrics(nodes.get(name).queues.metricFamilies()).trimEnd().split("\n");
  const samples = lines.filter((line) => !line.startsWith("#")).map((line) => line.split(/ (?=\S+$)/u));
  return new Map(samples.map(([sample = "", value]) => [sample, Number(value)]));
}

describe("metrics of queues", () => {
  it("tell what is there, what came and went and how long it took, queue by queue", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [a, b] = await nodes.declare("jobs", { retry: { kind: "fixed", delayMs: 1 }, maxDeliveries: 2 });
    await a?.enqueue(new Uint8Array(1));
    await a?.enqueue(new Uint8Array(1), { delayMs: 60_000 });
    const held = await b?.take();
    await a?.enqueue(new Uint8Array(1));
    const stock = samplesOf(nodes, "a");
    const states = ["ready", "delayed", "leased", "dead", "unserved"];
    const counts = states.map((state) => stock.get(`klatsch_queue_messages{queue="jobs",state="${state}"}`));
    expect(counts).toEqual([1, 1, 1, 0, 0]);
    expect(stock.get('klatsch_queue_oldest_age_seconds{queue="jobs"}')).toBeGreaterThan(0);
    expect(stock.get('klatsch_queue_lanes{role="writer",state="open"}')).toBeGreaterThan(0);
    expect(samplesOf(nodes, "b").get("klatsch_queue_held")).toBe(1);
    await held?.ack();
    const consumer = b?.consume(() => {
      throw new Error("broken");
    });
    await until(
      "it is dead",
      () => samplesOf(nodes, "a").get('klatsch_queue_messages{queue="jobs",state="dead"}') === 1,
    );
    await consumer?.stop();
    const [small] = await nodes.declare("small", { maxLength: 1 });
    await small?.enqueue(new Uint8Array(1));
    await expect(small?.enqueue(new Uint8Array(1))).rejects.toMatchObject({ code: "QUEUE_FULL" });
    const [flowA, flowB] = [samplesOf(nodes, "a"), samplesOf(nodes, "b")];
    expect(flowA.get('klatsch_queue_enqueued_total{queue="jobs"}')).toBeGreaterThanOrEqual(3);
    expect(flowA.get('klatsch_queue_enqueue_seconds_total{queue="jobs"}')).toBeGreaterThan(0);
    expect(flowA.get('klatsch_queue_enqueue_failures_total{queue="small",code="QUEUE_FULL"}')).toBe(1);
    const winner = `klatsch_queue_elections_total{queue="jobs",peer="${nodes.get("b").mesh.peerId}"}`;
    expect(flowA.get(winner)).toBeGreaterThanOrEqual(3);
    expect(flowA.get("klatsch_queue_syncs_total")).toBeGreaterThan(0);
    expect(flowA.get("klatsch_queue_sync_seconds_total")).toBeGreaterThan(0);
    expect(flowB.get('klatsch_queue_delivered_total{queue="jobs"}')).toBeGreaterThanOrEqual(3);
    expect(flowB.get('klatsch_queue_redelivered_total{queue="jobs"}')).toBeGreaterThanOrEqual(1);
    expect(flowB.get('klatsch_queue_outcomes_total{queue="jobs",outcome="ack"}')).toBe(1);
    expect(flowB.get('klatsch_queue_handlers_total{queue="jobs",outcome="threw"}')).toBeGreaterThanOrEqual(2);
    expect(flowB.get('klatsch_queue_handler_seconds_total{queue="jobs"}')).toBeGreaterThan(0);
    const counted = (samples: Map<string, number>, name: string, labels = "", le = "+Inf"): unknown => {
      const all = samples.get(`klatsch_queue_${name}_duration_seconds_count${labels && `{${labels}}`}`);
      const bucket = `klatsch_queue_${name}_duration_seconds_bucket{${labels && `${labels},`}le="${le}"}`;
      expect(samples.get(bucket)).toBe(all);
      return all;
    };
    const jobs = 'queue="jobs"';
    expect(counted(flowA, "enqueue", jobs)).toBe(flowA.get(`klatsch_queue_enqueued_total{${jobs}}`));
    expect(counted(flowA, "sync")).toBe(flowA.get("klatsch_queue_syncs_total"));
    expect(counted(flowB, "wait", jobs)).toBe(2); // The third failed before.
    expect(counted(flowB, "handler", jobs)).toBe(
      flowB.get(`klatsch_queue_handlers_total{${jobs},outcome="threw"}`),
    );
    expect(flowA.has(`klatsch_queue_handler_duration_seconds_count{${jobs}}`)).toBe(false);
  });

  it("put all elections under one label, and count hooks", async () => {
    await using nodes = await Nodes.start({ hooks: { afterAck: () => undefined } }, "a");
    const { queues } = nodes.get("a");
    await (await queues.elect("chair")).resign();
    const [jobs] = await nodes.declare("jobs", { replicas: 1 });
    await jobs?.enqueue(new Uint8Array(1));
    await (await jobs?.take())?.ack();
    const hooked = 'klatsch_queue_hook_calls_total{hook="afterAck"}';
    await until("the hook has run", () => samplesOf(nodes, "a").get(hooked) === 1);
    const samples = samplesOf(nodes, "a");
    expect(samples.get('klatsch_queue_enqueued_total{queue="~elections"}')).toBe(1);
    expect([...samples.keys()].filter((name) => name.includes("~elect/"))).toEqual([]);
    const names = queues.metricFamilies().map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    for (const { name, type } of queues.metricFamilies())
      expect(name.endsWith("_total")).toBe(type === "counter");
  });
});
