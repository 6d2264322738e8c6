import { renderMetrics } from "@klatsch/kit";
import { describe, expect, it } from "vitest";

import { QueueMetrics } from "../../src/host/queue-metrics.ts";
import { statsOf } from "../../src/host/told.ts";

const COUNTS = { enqueued: 0, delivered: 0, settled: 0, elections: 0, steals: 0 };

function textOf(metrics: QueueMetrics): string {
  const census = { queues: new Map(), lanes: [] };
  const stats = statsOf(undefined, { ...COUNTS, lanesMoved: 0, faults: 0, badFrames: 0 });
  const rest = { wallMs: 1, consumers: new Map(), hooks: new Map() };
  return renderMetrics(metrics.families({ census, stats, ...rest }));
}

describe("times by queue", () => {
  it("fall into buckets by seconds", () => {
    const metrics = new QueueMetrics((queue) => queue);
    for (const tookMs of [1, 4, 26, 400_000]) metrics.handled("q", tookMs, false);
    const name = "klatsch_queue_handler_duration_seconds";
    const lines = textOf(metrics)
      .split("\n")
      .filter((line) => line.startsWith(`${name}_`));
    const values = lines.map((line) => line.split(" ")[1]);
    expect(values).toEqual(["1", "2", "2", "2", "3", "3", "3", "3", "3", "3", "4", "400.031", "4"]);
    expect(lines[1]).toBe(`${name}_bucket{queue="q",le="0.005"} 2`);
  });

  it("share a label beyond so many queues, until one of these is deleted", () => {
    const metrics = new QueueMetrics((queue) => queue);
    const labels = (): number => new Set(textOf(metrics).match(/enqueue_duration_seconds_count\{.*\}/g)).size;
    for (let no = 0; no < 300; no += 1) metrics.enqueued(`q${no}`, 1);
    expect(labels()).toBe(257);
    expect(textOf(metrics)).toContain('klatsch_queue_enqueue_duration_seconds_count{queue="~others"} 44\n');
    metrics.forget("q0");
    expect(labels()).toBe(256);
    for (const queue of ["new", "newer"]) metrics.enqueued(queue, 1);
    expect(labels()).toBe(257);
    expect(textOf(metrics)).toContain('klatsch_queue_enqueue_duration_seconds_count{queue="new"} 1\n');
  });
});
