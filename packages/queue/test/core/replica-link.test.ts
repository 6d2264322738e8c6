import { SeededRandom } from "@klatsch/kit/core";
import { describe, expect, it } from "vitest";

import type { Context } from "../../src/core/context.ts";
import { DEFAULT_TUNING } from "../../src/core/context.ts";
import type { LaneSender } from "../../src/core/replica-link.ts";
import { ReplicaLink } from "../../src/core/replica-link.ts";
import type { Descriptor, Value } from "../../src/core/types.ts";

/** A lane of which so many messages have not been sent. */
class Sender implements LaneSender {
  readonly lane: string;
  readonly descriptor = { replicas: [] } as unknown as Descriptor;
  readonly right = { round: 0, pid: "" };
  readonly #value: Value;
  left: number;

  constructor(lane: string, left: number, bodyBytes = 64) {
    this.lane = lane;
    this.left = left;
    this.#value = { state: "READY", bodyBytes } as Value;
  }

  pump(link: ReplicaLink): boolean {
    for (; this.left > 0; this.left -= 1) {
      if (!link.hasTurn) return false;
      link.accept(this, { seq: this.left, step: 0, value: this.#value, body: undefined, attach: true });
    }
    return true;
  }

  onOk(): void {}

  onLost(): void {}
}

describe("a link to a replica", () => {
  it("sends what each lane owes in turns, however much one of them does", () => {
    const now = { monoMs: 0, wallMs: 0 };
    const tuning = { ...DEFAULT_TUNING, windowBytesMin: DEFAULT_TUNING.windowBytes };
    const context = { now, tuning, random: new SeededRandom(1) } as unknown as Context;
    const link = new ReplicaLink(context, "peer", "store");
    link.up();
    const busy = new Sender("busy", 100_000);
    link.owe(busy);
    const frames = [...link.flush()];
    expect(busy.left).toBeLessThan(100_000 - DEFAULT_TUNING.windowOps + 1);
    const others = [new Sender("small", 1), new Sender("other", 10_000)];
    for (const one of others) link.owe(one);
    const answered: string[] = [];
    for (let no = 0; no < 6; no += 1) {
      const { session = 0, no: frame = 0 } = frames.shift() ?? {};
      link.ok({ type: "ok", session, no: frame, batchNo: 1, proof: 1, exceptions: [] });
      const sent = link.flush();
      frames.push(...sent);
      answered.push(...sent.flatMap(({ sections }) => sections.map(({ lane }) => lane)));
    }
    expect(others[0]?.left).toBe(0);
    // Of five frames and what one message takes of them, the two that owe much have half each.
    expect(answered.filter((lane) => lane === "busy").length).toBeGreaterThanOrEqual(2);
    expect(answered.filter((lane) => lane === "other").length).toBeGreaterThanOrEqual(2);
  });

  describe.each([
    ["slow", 125_000, 10],
    ["slow and long", 125_000, 800],
    ["fast", 20_000_000, 1],
    ["fast and long", 20_000_000, 150],
  ])("that is %s", (_, bytesPerSecond, wayMs) => {
    it("has no more under way than is answered in a while, and no less than the way holds", () => {
      const { tookMs, rate } = saturated(bytesPerSecond, wayMs);
      expect(tookMs).toBeLessThan(Math.max(1_500, 6 * wayMs));
      expect(rate).toBeGreaterThan(0.85 * bytesPerSecond);
    });
  });

  it("that became longer has as much under way as it holds now, a while later", () => {
    const { rate } = saturated(5_000_000, (nowMs) => (nowMs < 5_000 ? 10 : nowMs < 25_000 ? 1_500 : 400));
    expect(rate).toBeGreaterThan(0.85 * 5_000_000);
  });

  it("that holds little, and is not longer than it was, goes on so while that is found out", () => {
    const { tookMs, rate } = saturated(32_000, 50, 300_000);
    expect(tookMs).toBeLessThan(8_000); // Twice what one frame takes, and what the least window does.
    expect(rate).toBeGreaterThan(0.85 * 32_000);
  });
});

/** What becomes of frames in the last 20 s, if there is always more to send, and a way that takes so much, now or at a time. */
function saturated(
  bytesPerSecond: number,
  way: number | ((nowMs: number) => number),
  endMs = 90_000,
): { readonly tookMs: number; readonly rate: number } {
  const now = { monoMs: 0, wallMs: 0 };
  const context = { now, tuning: DEFAULT_TUNING, random: new SeededRandom(1) } as unknown as Context;
  const link = new ReplicaLink(context, "peer", "store");
  link.up();
  link.owe(new Sender("busy", 100_000_000, 4_096));
  const due: {
    readonly atMs: number;
    readonly sentMs: number;
    readonly session: number;
    readonly no: number;
  }[] = [];
  let freeMs = 0;
  let [tookMs, bytes] = [0, 0];
  for (; now.monoMs < endMs; now.monoMs += 1) {
    for (let next = due[0]; next !== undefined && next.atMs <= now.monoMs; next = due[0]) {
      due.shift();
      link.ok({ type: "ok", session: next.session, no: next.no, batchNo: 1, proof: 1, exceptions: [] });
      if (now.monoMs >= endMs - 20_000) tookMs = Math.max(tookMs, now.monoMs - next.sentMs);
    }
    for (const { session, no, sections } of link.flush()) {
      const length = sections.reduce((sum, { accepts }) => sum + accepts.length * 4_256, 0);
      freeMs = Math.max(freeMs, now.monoMs) + (length / bytesPerSecond) * 1_000;
      const wayMs = typeof way === "number" ? way : way(now.monoMs);
      due.push({ atMs: freeMs + 2 * wayMs, sentMs: now.monoMs, session, no });
      if (now.monoMs >= endMs - 20_000) bytes += length;
    }
  }
  return { tookMs, rate: bytes / 20 };
}
