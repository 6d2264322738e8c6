import { describe, expect, it } from "vitest";
import type { Mesh } from "@klatsch/mesh";
import { Bed, full, next, Probe } from "./helpers.ts";

const SAMPLE = /^([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\]|\\.)*",?)*)\})? (\S+)$/u;

/** The value of each sample, by its name and labels as they are written. */
function samplesOf(mesh: Mesh): Map<string, number> {
  const lines = mesh.metrics().trimEnd().split("\n");
  return new Map(
    lines
      .filter((line) => !line.startsWith("#"))
      .map((line) => {
        const [, name = "", labels = "", value] = SAMPLE.exec(line) ?? [];
        expect(name, line).not.toBe("");
        return [`${name}{${labels}}`, Number(value)];
      }),
  );
}

describe("metrics", () => {
  it("tell members, links, messages, bytes by class and protocol, queues and the event loop", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const b = await bed.mesh("b", { bootstrap: a.addresses() });
    await full(a, b);
    const [atA, atB] = [new Probe(a, "talk", "high"), new Probe(b, "talk", "high")];
    await Promise.all([atA.up(), atB.up()]);
    samplesOf(a); // The event loop is watched from now on.
    atA.channel.send(b.peerId, Buffer.alloc(1_000));
    const waiting = samplesOf(a);
    expect(waiting.get('klatsch_mesh_queue_frames{class="high"}')).toBe(1);
    expect(waiting.get('klatsch_mesh_queue_bytes{class="high"}')).toBe(1_006);
    await atB.until(() => atB.frames.length === 1);
    const [ofA, ofB] = [samplesOf(a), samplesOf(b)];
    const traffic = (direction: string): string =>
      `klatsch_mesh_bytes_total{class="high",protocol="talk",direction="${direction}"}`;
    expect([ofA.get(traffic("sent")), ofB.get(traffic("received"))]).toEqual([1_006, 1_006]);
    expect(ofA.get('klatsch_mesh_members{status="alive"}')).toBe(2);
    expect(ofA.get('klatsch_mesh_links{conduit="tcp"}')).toBe(1);
    expect(ofA.get("klatsch_mesh_connections{}")).toBe(1);
    expect(ofA.get('klatsch_mesh_queue_frames{class="high"}')).toBe(0);
    expect(ofA.get('klatsch_mesh_events_total{event="joined"}')).toBe(1);
    expect(
      ofA.get('klatsch_mesh_bytes_total{class="link",protocol="membership",direction="sent"}'),
    ).toBeGreaterThan(0);
    expect(ofA.get('klatsch_event_loop_delay_seconds{quantile="0.5"}')).toBeLessThan(10);
    const stopped = next(a, "member:stopped");
    await b.stop();
    await stopped;
    expect(samplesOf(a).get('klatsch_mesh_members{status="stopped"}')).toBe(1);
  });

  it("say what each family is, once", async () => {
    await using bed = new Bed();
    const mesh = await bed.mesh("a");
    const names = mesh.metricFamilies().map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    for (const { name, help, type } of mesh.metricFamilies()) {
      expect(name.endsWith("_total")).toBe(type === "counter");
      expect(help).toMatch(/\.$/u);
    }
  });
});
