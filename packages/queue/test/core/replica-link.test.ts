import { SeededRandom } from "@klatsch/kit/core";
import { describe, expect, it } from "vitest";

import type { Context } from "../../src/core/context.ts";
import { DEFAULT_TUNING } from "../../src/core/context.ts";
import type { LaneSender } from "../../src/core/replica-link.ts";
import { ReplicaLink } from "../../src/core/replica-link.ts";
import type { Descriptor, Value } from "../../src/core/types.ts";

const value = { state: "READY", bodyBytes: 64 } as Value;

/** A lane of which so many messages have not been sent. */
class Sender implements LaneSender {
  readonly lane: string;
  readonly descriptor = { replicas: [] } as unknown as Descriptor;
  readonly right = { round: 0, pid: "" };
  left: number;

  constructor(lane: string, left: number) {
    this.lane = lane;
    this.left = left;
  }

  pump(link: ReplicaLink): boolean {
    for (; this.left > 0; this.left -= 1) {
      if (!link.hasTurn) return false;
      link.accept(this, { seq: this.left, step: 0, value, body: undefined, attach: true });
    }
    return true;
  }

  onOk(): void {}

  onLost(): void {}
}

describe("a link to a replica", () => {
  it("sends what each lane owes in turns, however much one of them does", () => {
    const context = { tuning: DEFAULT_TUNING, random: new SeededRandom(1) } as unknown as Context;
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
      link.ok({ type: "ok", session, no: frame, batchNo: 1, exceptions: [] });
      const sent = link.flush();
      frames.push(...sent);
      answered.push(...sent.flatMap(({ sections }) => sections.map(({ lane }) => lane)));
    }
    expect(others[0]?.left).toBe(0);
    // Of five frames and what one message takes of them, the two that owe much have half each.
    expect(answered.filter((lane) => lane === "busy").length).toBeGreaterThanOrEqual(2);
    expect(answered.filter((lane) => lane === "other").length).toBeGreaterThanOrEqual(2);
  });
});
