import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ChannelSessions } from "../../src/core/channel-sessions.ts";
import type { ChannelNotice } from "../../src/core/channel-sessions.ts";

interface Frame {
  readonly type: "frame";
  readonly number: number;
  /** Which session of the sender it was sent in, to check who gets it. */
  readonly session: number;
}

/** One end of a stream: what it sends waits in `out` until the test delivers it to the other end, in order. */
class End {
  readonly out: (ChannelNotice | Frame)[] = [];
  readonly log: string[] = [];
  readonly sessions: ChannelSessions;
  /** Sessions so far, and the number of the one that is up. */
  count = 0;
  number = 0;
  readonly got: number[] = [];
  /** Which of our sessions frames of each of the sender's sessions came to. */
  readonly pairs = new Map<number, Set<number>>();

  constructor() {
    this.sessions = new ChannelSessions({
      send: (notice) => this.out.push(notice),
      up: (_name, number) => {
        if (this.number !== 0) throw new Error("up twice");
        this.number = number;
        this.count += 1;
        this.log.push("up");
      },
      down: () => {
        if (this.number === 0) throw new Error("down without up");
        this.number = 0;
        this.log.push("down");
      },
    });
  }

  sendFrame(): void {
    if (this.number !== 0) this.out.push({ type: "frame", number: this.number, session: this.count });
  }

  receive(message: ChannelNotice | Frame | undefined): void {
    if (message === undefined) return;
    if (message.type !== "frame") {
      if (!this.sessions.receive(message)) throw new Error(`refused ${JSON.stringify(message)}`);
      return;
    }
    const channel = this.sessions.channelOf(message.number);
    if (channel === "unknown") throw new Error("a frame of an unknown channel");
    if (channel === "stale") return;
    this.got.push(message.session);
    this.pairs.set(message.session, (this.pairs.get(message.session) ?? new Set()).add(this.count));
  }
}

function deliver(from: End, to: End): void {
  to.receive(from.out.shift());
}

function settle(a: End, b: End): void {
  while (a.out.length + b.out.length > 0) {
    deliver(a, b);
    deliver(b, a);
  }
}

describe("ChannelSessions", () => {
  it("is up at both ends once both have registered", () => {
    const [a, b] = [new End(), new End()];
    a.sessions.register("x");
    settle(a, b);
    expect([a.log, b.log]).toEqual([[], []]);
    b.sessions.register("x");
    settle(a, b);
    expect([a.log, b.log]).toEqual([["up"], ["up"]]);
  });

  it("never takes a frame of an old session for one of the new", () => {
    const [a, b] = [new End(), new End()];
    a.sessions.register("x");
    b.sessions.register("x");
    settle(a, b);
    b.sendFrame(); // On its way while A closes and registers anew.
    a.sessions.unregister("x");
    a.sessions.register("x");
    settle(a, b);
    expect(a.got).toEqual([]);
    expect([a.log, b.log]).toEqual([
      ["up", "down", "up"],
      ["up", "down", "up"],
    ]);
  });

  it("goes down at both ends when the stream ends", () => {
    const [a, b] = [new End(), new End()];
    a.sessions.register("x");
    b.sessions.register("x");
    settle(a, b);
    for (const end of [a, b]) end.sessions.end();
    expect([a.log, b.log]).toEqual([
      ["up", "down"],
      ["up", "down"],
    ]);
  });

  it.each([
    ["an offer whose number does not grow", { type: "open", number: 1, name: "y", seen: 0 }],
    ["a close of what was never offered", { type: "close", number: 9, name: "x" }],
  ] as const)("refuses %s", (_what, notice) => {
    const end = new End();
    end.sessions.receive({ type: "open", number: 1, name: "x", seen: 0 });
    expect(end.sessions.receive(notice)).toBe(false);
  });

  it("refuses more names than its limit", () => {
    const end = new End();
    const accepted = Array.from({ length: 200 }, (_, index) =>
      end.sessions.receive({ type: "open", number: index + 1, name: `n${index}`, seen: 0 }),
    );
    expect(accepted.filter(Boolean).length).toBe(128);
  });

  it("always agrees in the end, and loses no frame of a session that both ends stay in", () => {
    const action = fc.constantFrom(
      "aRegister",
      "bRegister",
      "aClose",
      "bClose",
      "aFrame",
      "bFrame",
      "toA",
      "toB",
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 80, size: "max" }), (actions) => {
        const [a, b] = [new End(), new End()];
        const local = { a: false, b: false };
        const sent = { a: [] as number[], b: [] as number[] };
        const act = (what: string): void => {
          const [end, key] = what.startsWith("a") ? [a, "a" as const] : [b, "b" as const];
          if (what.endsWith("Register") && !local[key]) {
            local[key] = true;
            end.sessions.register("x");
          } else if (what.endsWith("Close") && local[key]) {
            local[key] = false;
            end.sessions.unregister("x");
          } else if (what.endsWith("Frame")) {
            if (end.number !== 0) sent[key].push(end.count);
            end.sendFrame();
          } else if (what === "toA") deliver(b, a);
          else if (what === "toB") deliver(a, b);
        };
        for (const what of actions) act(what);
        settle(a, b);
        for (const { pairs } of [a, b]) {
          const ours = [...pairs.values()].map((sessions) => [...sessions]);
          expect(ours.every((sessions) => sessions.length === 1)).toBe(true);
          expect(new Set(ours.flat()).size).toBe(ours.length);
        }
        const up = local.a && local.b;
        expect([a.number !== 0, b.number !== 0]).toEqual([up, up]);
        if (!up) return;
        // The last session is the same one for both: all its frames arrived, in order.
        expect(b.got.filter((session) => session === a.count)).toEqual(
          sent.a.filter((session) => session === a.count),
        );
        expect(a.got.filter((session) => session === b.count)).toEqual(
          sent.b.filter((session) => session === b.count),
        );
      }),
      { numRuns: 2_000 },
    );
  });
});
