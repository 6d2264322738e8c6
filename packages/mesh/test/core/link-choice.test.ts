import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LinkChoice, TEST_MS } from "../../src/core/link-choice.ts";
import type { LinkChoiceEffect, LinkChoiceInput } from "../../src/core/link-choice.ts";

type Word = "hello" | "accept" | "refuse" | "test" | "testAck" | "end";

/** Both ends of one peer pair: each has a choice, and every connection is two queues of words in order. */
class Pair {
  readonly choices = { a: new LinkChoice({ arbiter: true }), b: new LinkChoice({ arbiter: false }) };
  readonly queues = new Map<number, { toA: Word[]; toB: Word[] }>();
  readonly open = { a: new Set<number>(), b: new Set<number>() };
  readonly ups: string[] = [];
  readonly refused: string[] = [];
  /** Connections that swallow everything, as a blackholed TCP does. */
  readonly silent = new Set<number>();
  readonly tunnels = new Set<number>();
  boots = { a: 1, b: 1 };
  instances = { a: "a1", b: "b1" };
  nowMs = 0;
  #lastConn = 0;

  dial(): number {
    this.#lastConn += 1;
    const conn = this.#lastConn;
    this.queues.set(conn, { toA: ["hello"], toB: ["hello"] });
    this.open.a.add(conn);
    this.open.b.add(conn);
    return conn;
  }

  /** A connection over relays. */
  tunnel(): number {
    const conn = this.dial();
    this.tunnels.add(conn);
    return conn;
  }

  /** Delivers the next word on a connection to one end. */
  deliver(conn: number, to: "a" | "b"): void {
    if (this.silent.has(conn)) return;
    const word = this.#queue(conn, to).shift();
    if (word === undefined || !this.open[to].has(conn)) return;
    if (word === "hello") {
      const from = to === "a" ? "b" : "a";
      const process = { boot: this.boots[from], instance: this.instances[from] };
      this.step(to, { type: "hello", conn, process, tunnel: this.tunnels.has(conn), knownBoot: 0 });
    } else if (word === "accept") this.step(to, { type: "accepted", conn });
    else if (word === "test") this.#say(conn, to, "testAck");
    else if (word === "testAck") this.step(to, { type: "heard", conn });
    else this.close(conn, to);
  }

  close(conn: number, end: "a" | "b"): void {
    if (!this.open[end].delete(conn)) return;
    this.#say(conn, end, "end");
    this.step(end, { type: "closed", conn });
  }

  step(end: "a" | "b", input: LinkChoiceInput): void {
    const effects = this.choices[end].step(input, { monoMs: this.nowMs, wallMs: 0 });
    for (const effect of effects) this.#perform(end, effect);
  }

  advance(durationMs: number): void {
    this.nowMs += durationMs;
    for (const end of ["a", "b"] as const) {
      const deadline = this.choices[end].nextDeadline();
      if (deadline !== undefined && deadline <= this.nowMs) this.step(end, { type: "tick" });
    }
  }

  /** Delivers all there is, and lets tests of silent connections run out. */
  settle(): void {
    for (let round = 0; round < 200; round += 1) {
      for (const conn of this.queues.keys()) for (const to of ["a", "b"] as const) this.deliver(conn, to);
      if (round % 10 === 9) this.advance(TEST_MS / 5);
    }
  }

  #perform(end: "a" | "b", effect: LinkChoiceEffect): void {
    if (!this.open[end].has(effect.conn)) return;
    if (effect.type === "accept" || effect.type === "test") this.#say(effect.conn, end, effect.type);
    else if (effect.type === "up") this.ups.push(`${end}${effect.conn}`);
    else {
      if (effect.type === "refuse") this.refused.push(`${end}${effect.conn} ${effect.code}`);
      this.#say(effect.conn, end, "refuse");
      this.close(effect.conn, end);
    }
  }

  #say(conn: number, from: "a" | "b", word: Word): void {
    this.#queue(conn, from === "a" ? "b" : "a").push(word);
  }

  #queue(conn: number, to: "a" | "b"): Word[] {
    const queues = this.queues.get(conn);
    if (queues === undefined) throw new Error("no such connection");
    return to === "a" ? queues.toA : queues.toB;
  }
}

describe("LinkChoice", () => {
  it("takes the only connection at both ends", () => {
    const pair = new Pair();
    pair.dial();
    pair.settle();
    expect(pair.ups.toSorted()).toEqual(["a1", "b1"]);
  });

  it("always keeps one connection, the same at both ends and never another, however many are dialled at once", () => {
    const deliveries = fc.array(fc.tuple(fc.nat(), fc.boolean()), { maxLength: 60, size: "max" });
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 4 }), deliveries, (dials, order) => {
        const pair = new Pair();
        for (let dialled = 0; dialled < dials; dialled += 1) pair.dial();
        for (const [index, toA] of order) pair.deliver(1 + (index % dials), toA ? "a" : "b");
        pair.settle();
        expect(pair.choices.a.current).toBeDefined();
        expect(pair.choices.a.current).toBe(pair.choices.b.current);
        expect(pair.ups.length).toBe(2); // One each: no flapping.
        expect(pair.open.a.size).toBe(1);
        expect(pair.open.b.size).toBe(1);
      }),
      { numRuns: 2_000 },
    );
  });

  it("always agrees again after connections were lost, fell silent or were dialled anew", () => {
    const action = fc.tuple(
      fc.constantFrom("dial", "tunnel", "closeA", "closeB", "silence", "toA", "toB", "wait"),
      fc.nat(),
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60, size: "max" }), (actions) => {
        const pair = new Pair();
        for (const [what, nat] of actions) {
          if (what === "dial") pair.dial();
          else if (what === "tunnel") pair.tunnel();
          else if (what === "wait") pair.advance(nat % 300);
          else if (pair.queues.size > 0) {
            const conn = 1 + (nat % pair.queues.size);
            if (what === "closeA") pair.close(conn, "a");
            else if (what === "closeB") pair.close(conn, "b");
            else if (what === "silence") pair.silent.add(conn);
            else pair.deliver(conn, what === "toA" ? "a" : "b");
          }
        }
        pair.settle();
        // Whoever has no link dials, as the dialer does.
        for (let round = 0; round < 3; round += 1) {
          if (pair.choices.a.current === undefined || pair.choices.b.current === undefined) pair.dial();
          pair.settle();
        }
        const current = pair.choices.a.current ?? 0;
        if (pair.silent.has(current)) return; // Nobody asked for its place; probes find that, not we.
        expect(current).toBeGreaterThan(0);
        expect(pair.choices.b.current).toBe(current);
      }),
      { numRuns: 2_000 },
    );
  });

  it("lets a direct connection replace a tunnel at once, and no tunnel a direct connection", () => {
    const pair = new Pair();
    const first = pair.tunnel();
    pair.settle();
    expect([pair.choices.a.current, pair.choices.b.current]).toEqual([first, first]);
    const direct = pair.dial();
    for (const to of ["a", "b", "b", "a"] as const) pair.deliver(direct, to); // No time passes.
    expect([pair.choices.a.current, pair.choices.b.current]).toEqual([direct, direct]);
    pair.tunnel();
    pair.settle();
    expect([pair.choices.a.current, pair.choices.b.current]).toEqual([direct, direct]);
    expect(pair.open.a).toEqual(new Set([direct]));
  });

  it("lets a tunnel replace a direct connection that has fallen silent", () => {
    const pair = new Pair();
    const direct = pair.dial();
    pair.settle();
    pair.silent.add(direct);
    const tunnel = pair.tunnel();
    pair.settle();
    expect([pair.choices.a.current, pair.choices.b.current]).toEqual([tunnel, tunnel]);
  });

  it("judges whoever waited for a test of a tunnel against what replaced the tunnel", () => {
    const pair = new Pair();
    const silent = pair.tunnel();
    pair.settle();
    pair.silent.add(silent);
    const waiting = pair.tunnel();
    pair.deliver(waiting, "a"); // Now the silent one is being tested.
    const direct = pair.dial();
    pair.settle();
    expect([pair.choices.a.current, pair.choices.b.current]).toEqual([direct, direct]);
  });

  it("lets a restarted process replace its predecessor at once", () => {
    const pair = new Pair();
    pair.dial();
    pair.settle();
    pair.boots.b = 2;
    pair.instances.b = "b2";
    pair.dial();
    pair.settle();
    expect([pair.choices.a.current, pair.choices.b.current]).toEqual([2, 2]);
  });

  it.each(["a", "b"] as const)(
    "turns an older process of the other end away while the newer answers (%s)",
    (end) => {
      const other = end === "a" ? "b" : "a";
      const pair = new Pair();
      pair.boots[other] = 2;
      pair.dial();
      pair.settle();
      pair.boots[other] = 1;
      pair.instances[other] = "older";
      const conn = pair.dial();
      pair.deliver(conn, end);
      pair.settle();
      expect(pair.refused).toContain(`${end}2 SUPERSEDED`);
      expect(pair.choices[end].current).toBe(1);
    },
  );

  it("asks a process to raise its boot where a higher one is known and nobody answers for it", () => {
    const choice = new LinkChoice({ arbiter: true });
    const process = { boot: 5, instance: "x" };
    const effects = choice.step(
      { type: "hello", conn: 1, process, tunnel: false, knownBoot: 6 },
      { monoMs: 0, wallMs: 0 },
    );
    expect(effects).toEqual([{ type: "refuse", conn: 1, code: "BOOT_LOW" }]);
  });

  it("does not judge by a test that ran out while this process slept", () => {
    const pair = new Pair();
    pair.dial();
    pair.settle();
    const conn = pair.dial();
    pair.deliver(conn, "a");
    pair.advance(5_000); // The ack waits in the socket.
    pair.settle();
    expect(pair.choices.a.current).toBe(1);
    expect(pair.refused).toEqual(["a2 DUPLICATE"]);
  });
});
