import { describe, expect, it, vi } from "vitest";

import { HandlerConsumer } from "../../src/host/consumer.ts";
import { HeldMessage } from "../../src/host/message.ts";
import type { Settle, SettleDone } from "../../src/host/message.ts";
import { Turn } from "../../src/host/turn.ts";
import type { Handler } from "../../src/types.ts";
import { until } from "../support/nodes.ts";

/** A consumer, what it handled so far, and the outcomes nobody has confirmed. */
function begin(handler: Handler): {
  readonly consumer: HandlerConsumer;
  readonly handled: number[];
  readonly asked: { readonly kind: string; readonly seq: number; readonly done: SettleDone }[];
  deliver(...seqs: readonly number[]): readonly HeldMessage[];
} {
  const asked: { kind: string; seq: number; done: SettleDone }[] = [];
  const handled: number[] = [];
  const run: Handler = async (message) => {
    handled.push(seqOf(message.id));
    await handler(message);
  };
  const pace = { concurrency: 1, rate: undefined, turn: new Turn() };
  const consumer = new HandlerConsumer(() => "session", run, pace, { onHandled() {}, onEnd() {} });
  const settle: Settle = ({ seq }, { kind }, done) => void asked.push({ kind, seq, done });
  const deliver = (...seqs: readonly number[]): readonly HeldMessage[] =>
    seqs.map((seq) => {
      const held = { lane: "lane", seq, epoch: 1, session: "session" };
      const rest = { enqueuedWallMs: 0, attributes: undefined, reason: undefined, body: undefined };
      const item = { ...held, ...rest, leaseMs: 1_000, ageMs: 0, deliveries: 0 };
      const message = new HeldMessage(item, "queue", new Uint8Array(), 0, settle);
      consumer.deliver(message);
      return message;
    });
  return { consumer, handled, asked, deliver };
}

const seqOf = (id: string): number => Number(id.slice(id.lastIndexOf("-") + 1));
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe("a consumer of concurrency 1", () => {
  it("begins the next handler once the one before returned, not once its outcome is confirmed", async () => {
    const gates: (() => void)[] = [];
    const { asked, handled, deliver } = begin(() => new Promise((resolve) => gates.push(resolve)));
    deliver(1, 2, 3);
    await turn();
    expect(handled).toEqual([1]);
    gates[0]?.();
    await turn();
    expect([handled, asked.map(({ kind, seq }) => [kind, seq])]).toEqual([[1, 2], [["ack", 1]]]);
  });

  it("has not stopped before the last outcome is confirmed", async () => {
    const { consumer, asked, handled, deliver } = begin(({ id }) => {
      if (seqOf(id) === 2) throw new Error("no");
    });
    deliver(1, 2, 3);
    await turn();
    expect(handled).toEqual([1, 2, 3]);
    let stopped = false;
    const stopping = consumer.stop().then(() => (stopped = true));
    asked[2]?.done("DONE");
    asked[1]?.done("DONE");
    await turn();
    expect([stopped, asked.map(({ kind }) => kind)]).toEqual([false, ["ack", "nack", "ack"]]);
    asked[0]?.done("STALE");
    await stopping;
    expect(consumer.stats).toMatchObject({ delivered: 3, acked: 1, failed: 1, unconfirmed: 1 });
  });

  it("does not begin what was lost while it waited, and has it off its hands", async () => {
    const gates: (() => void)[] = [];
    const { asked, handled, deliver } = begin(() => new Promise((resolve) => gates.push(resolve)));
    const [, second] = deliver(1, 2, 3);
    second?.lose();
    gates[0]?.();
    await turn();
    expect(handled).toEqual([1, 3]);
    expect(asked.map(({ kind, seq }) => [kind, seq])).toEqual([
      ["ack", 1],
      ["release", 2],
    ]);
  });

  it("lets all else have its turn between handlers that compute", async () => {
    const { handled, deliver } = begin(() => {
      const untilMs = performance.now() + 15;
      while (performance.now() < untilMs);
    });
    const due = new Promise((resolve) => setTimeout(resolve, 1));
    deliver(...Array.from({ length: 20 }, (_, no) => no));
    await due;
    expect(handled.length).toBeLessThan(4);
    await until("all are handled in the end", () => handled.length === 20);
  });

  it("takes thousands of handlers that throw at once", async () => {
    const gates: (() => void)[] = [];
    const { consumer, deliver } = begin(({ id }) => {
      if (seqOf(id) > 0) throw new Error("no");
      return new Promise((resolve) => gates.push(resolve));
    });
    deliver(...Array.from({ length: 4_096 }, (_, no) => no));
    gates[0]?.();
    await until("all have failed", () => consumer.stats.failed === 4_095);
  });
});

describe("a consumer whose stop has a limit", () => {
  const endless = (): Promise<void> => new Promise(() => undefined);

  it("waits for handlers until then, and no longer for one that has settled its message", async () => {
    const { consumer, asked, deliver } = begin(async (message) => {
      await message.ack();
      await endless();
    });
    const [message] = deliver(1);
    const end = new AbortController();
    let stopped = false;
    const stopping = consumer.stop({ signal: end.signal }).then(() => (stopped = true));
    await turn();
    expect([stopped, message?.signal.aborted, asked.length]).toEqual([false, false, 1]);
    end.abort();
    await stopping;
    expect([message?.signal.aborted, asked.map(({ kind }) => kind)]).toEqual([false, ["ack"]]);
  });

  it("ends once what was held is released, all stops of it at once", async () => {
    const { consumer, asked, deliver } = begin(endless);
    const [message] = deliver(1);
    const stops = [consumer.stop(), consumer.stop({ signal: AbortSignal.abort() })];
    await turn();
    expect([message?.signal.aborted, asked.map(({ kind }) => kind)]).toEqual([true, ["release"]]);
    let stopped = 0;
    for (const stop of stops) void stop.then(() => (stopped += 1));
    await turn();
    expect(stopped).toBe(0);
    asked[0]?.done("DONE");
    await Promise.all(stops);
  });

  it("ends a second later where nobody confirms that", async () => {
    vi.useFakeTimers();
    try {
      const { consumer, asked, deliver } = begin(endless);
      deliver(1);
      let stopped = false;
      void consumer.stop({ timeoutMs: 5_000 }).then(() => (stopped = true));
      await vi.advanceTimersByTimeAsync(4_999);
      expect([stopped, asked.length]).toEqual([false, 0]);
      await vi.advanceTimersByTimeAsync(1_000);
      expect([stopped, asked.length]).toEqual([false, 1]);
      await vi.advanceTimersByTimeAsync(1);
      expect(stopped).toBe(true);
      expect(vi.getTimerCount()).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });

  it("ends at once where nothing runs, and refuses what is no limit", async () => {
    const { consumer } = begin(endless);
    const stay = new AbortController();
    await consumer.stop({ timeoutMs: 60_000, signal: stay.signal });
    await expect(consumer.stop({ timeoutMs: -1 })).rejects.toMatchObject({ code: "INVALID_OPTIONS" });
  });
});
