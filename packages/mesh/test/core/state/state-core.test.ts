import { SeededRandom } from "@klatsch/kit/core";
import { describe, expect, it } from "vitest";
import type { SharedEntry, StateMessage } from "../../../src/core/state/messages.ts";
import { StateCore } from "../../../src/core/state/state-core.ts";
import type { StateEffect, StateInput } from "../../../src/core/state/state-types.ts";
import { STATE_TIMES } from "../../../src/core/state/state-types.ts";

const WALL_MS = 1_700_000_000_000;

/** Two or more cores; what one sends is handed over at once, unless the test loses it. */
class Net {
  nowMs = 0;
  /** How far wall clocks are ahead. */
  readonly aheadMs = new Map<string, number>();
  readonly cores = new Map<string, StateCore>();
  readonly effects: StateEffect[] = [];
  readonly sent: { readonly from: string; readonly to: string; readonly message: StateMessage }[] = [];
  loses: (message: StateMessage) => boolean = () => false;

  constructor(...names: readonly string[]) {
    for (const name of names) this.cores.set(name, this.#core(name));
    for (const name of names) {
      for (const peer of names) if (peer !== name) this.enter(name, { type: "joined", peer, boot: 1 });
    }
  }

  core(name: string): StateCore {
    const core = this.cores.get(name);
    if (core === undefined) throw new Error(`no ${name}`);
    return core;
  }

  link(a: string, b: string, aheadMs = 0): void {
    this.enter(a, { type: "linkUp", peer: b, aheadMs });
    this.enter(b, { type: "linkUp", peer: a, aheadMs: -aheadMs });
  }

  enter(name: string, input: StateInput): void {
    const core = this.core(name);
    const now = { monoMs: this.nowMs, wallMs: this.wallMsOf(name) };
    for (const effect of [...core.step(input, now), ...core.flush(now)]) this.#perform(name, effect);
  }

  wallMsOf(name: string): number {
    return WALL_MS + this.nowMs + (this.aheadMs.get(name) ?? 0);
  }

  say(name: string, key: string, value: number | undefined): void {
    this.core(name).write(key, value === undefined ? undefined : Uint8Array.of(value));
    this.enter(name, { type: "tick" });
  }

  share(name: string, key: string, value: number): void {
    this.enter(name, { type: "share", request: 1, key, value: Uint8Array.of(value), override: false });
  }

  probe(from: string, to: string): void {
    const { hash } = this.core(from);
    if (hash !== undefined) this.#deliver(from, to, { type: "hash", hash, wallMs: this.wallMsOf(from) });
  }

  /** Lets time pass; all who are linked probe each other once a second. */
  pass(durationMs: number, ...links: readonly (readonly [string, string])[]): void {
    for (const until = this.nowMs + durationMs; this.nowMs < until;) {
      this.nowMs += 100;
      for (const name of this.cores.keys()) this.enter(name, { type: "tick" });
      if (this.nowMs % 1_000 !== 0) continue;
      for (const [a, b] of links) {
        this.probe(a, b);
        this.probe(b, a);
      }
    }
  }

  counted(type: StateMessage["type"]): number {
    return this.sent.filter(({ message }) => message.type === type).length;
  }

  #perform(from: string, effect: StateEffect): void {
    this.effects.push(effect);
    if (effect.type === "send") this.#deliver(from, effect.to, effect.message);
  }

  #deliver(from: string, to: string, message: StateMessage): void {
    this.sent.push({ from, to, message });
    if (!this.loses(message)) this.enter(to, { type: "message", peer: from, message });
  }

  #core(self: string): StateCore {
    return new StateCore(
      {
        self,
        boot: 1,
        times: STATE_TIMES,
        random: new SeededRandom(1),
        shared: {
          ports: {
            seal: (draft) => ({
              ...draft,
              valueHash: String(draft.value),
              writer: self,
              signature: Uint8Array.of(1),
              credential: undefined,
            }),
            verify: ({ signature }) => signature[0] === 1,
            mayWrite: () => true,
          },
          entries: [],
          agreedAtMs: undefined,
        },
      },
      { monoMs: 0, wallMs: WALL_MS },
    );
  }
}

describe("StateCore", () => {
  it("tells a change at once, and costs a probe one hash where nothing changes", () => {
    const net = new Net("a", "b");
    net.link("a", "b");
    net.say("a", "x", 1);
    expect(net.core("b").ownValue("a", "x")).toEqual(Uint8Array.of(1));
    net.pass(10_000, ["a", "b"]);
    const before = net.sent.length;
    net.pass(60_000, ["a", "b"]);
    expect(net.sent.slice(before).every(({ message }) => message.type === "hash")).toBe(true);
  });

  it("passes on what it hears to whom the speaker is not linked, and not where the speaker reaches all", () => {
    const chain = new Net("a", "b", "c");
    chain.link("a", "b");
    chain.link("b", "c");
    chain.say("a", "x", 1);
    chain.share("a", "s", 2);
    expect(chain.core("c").ownValue("a", "x")).toEqual(Uint8Array.of(1));
    expect(chain.core("c").shared("s")?.value).toEqual(Uint8Array.of(2));

    const full = new Net("a", "b", "c");
    for (const [a, b] of [
      ["a", "b"],
      ["b", "c"],
      ["a", "c"],
    ] as const)
      full.link(a, b);
    full.sent.length = 0;
    full.say("a", "x", 1);
    full.share("a", "s", 2);
    expect(full.sent.map(({ from, to }) => `${from}${to}`)).toEqual(["ab", "ac", "ab", "ac"]);
  });

  it("finds within five seconds of probing what a flood has lost", () => {
    const net = new Net("a", "b");
    net.link("a", "b");
    net.pass(3_000, ["a", "b"]);
    net.loses = ({ type }) => type === "reset" || type === "delta" || type === "shared";
    net.say("a", "x", 1);
    net.share("b", "s", 2);
    net.loses = () => false;
    expect([net.core("b").ownValue("a", "x"), net.core("a").shared("s")]).toEqual([undefined, undefined]);
    net.pass(5_000, ["a", "b"]);
    expect(net.core("b").ownValue("a", "x")).toEqual(Uint8Array.of(1));
    expect(net.core("a").shared("s")?.value).toEqual(Uint8Array.of(2));
    expect(net.counted("buckets")).toBeLessThanOrEqual(3);
  });

  it("takes a hash that it had a moment ago for a message on its way", () => {
    const net = new Net("a", "b");
    net.link("a", "b");
    net.pass(3_000, ["a", "b"]);
    const before = net.counted("buckets");
    const old = net.core("b").hash;
    if (old === undefined) throw new Error("no hash");
    for (let round = 0; round < 5; round += 1) {
      net.say("a", "x", round);
      net.enter("a", { type: "message", peer: "b", message: { type: "hash", hash: old, wallMs: undefined } });
      net.pass(300);
    }
    net.pass(1_500);
    expect(net.counted("buckets")).toBe(before);
  });

  it("does not wait for what changed just before there was a link", () => {
    const net = new Net("a", "b");
    net.say("a", "x", 1);
    net.share("a", "s", 1);
    net.enter("a", { type: "ended", peer: "b" });
    net.enter("a", { type: "joined", peer: "b", boot: 1 });
    net.link("a", "b");
    net.pass(200);
    expect(net.core("b").shared("s")?.value).toEqual(Uint8Array.of(1));
  });

  it("compares less and less often with whom it will never agree", () => {
    const net = new Net("a", "b");
    net.link("a", "b");
    net.loses = ({ type }) => type === "reset" || type === "delta";
    net.say("a", "x", 1);
    net.pass(600_000, ["a", "b"]);
    expect(net.counted("buckets")).toBeLessThan(30);
    net.loses = () => false;
    net.pass(70_000, ["a", "b"]);
    expect(net.core("b").ownValue("a", "x")).toEqual(Uint8Array.of(1));
  });

  it("compares a bucket now and then although all hashes are equal", () => {
    const net = new Net("a", "b");
    net.link("a", "b");
    net.pass(3_000, ["a", "b"]);
    const before = net.counted("ownHeads");
    net.pass(1_300_000);
    expect(net.counted("ownHeads")).toBeGreaterThanOrEqual(before + 2);
  });

  it("asks whoever told of a member before membership knew it", () => {
    const net = new Net("a", "b", "c");
    net.enter("c", { type: "forgotten", peer: "a" });
    net.link("a", "b");
    net.link("b", "c");
    net.say("a", "x", 1);
    expect(net.core("c").ownValue("a", "x")).toBeUndefined();
    net.enter("c", { type: "joined", peer: "a", boot: 1 });
    expect(net.core("c").ownValue("a", "x")).toEqual(Uint8Array.of(1));
  });

  it("says all anew under a higher boot, when others hold what it never said", () => {
    const net = new Net("a", "b");
    net.link("a", "b");
    net.say("a", "x", 1);
    const entries = [{ key: "x", version: 9, value: Uint8Array.of(6) }];
    const delta = { peer: "a", boot: 1, floor: 0, from: 0, to: 9, entries };
    net.enter("b", { type: "message", peer: "a", message: { type: "reset", delta, toAll: true } });
    expect(net.core("b").ownValue("a", "x")).toEqual(Uint8Array.of(6));
    net.pass(5_000, ["a", "b"]);
    expect(net.effects).toContainEqual({ type: "raiseBoot", above: 1 });
    net.enter("a", { type: "booted", boot: 2 });
    net.pass(5_000, ["a", "b"]);
    expect(net.core("b").ownValue("a", "x")).toEqual(Uint8Array.of(6)); // Membership has not told of that boot.
    net.enter("b", { type: "joined", peer: "a", boot: 2 });
    net.pass(5_000, ["a", "b"]);
    expect(net.core("b").ownValue("a", "x")).toEqual(Uint8Array.of(1));
  });

  it("writes nothing while most neighbours' clocks say that ours is wrong", () => {
    const net = new Net("a", "b", "c");
    net.link("a", "b", 100_000);
    net.share("a", "s", 1);
    net.link("a", "c", 100_000);
    net.share("a", "s", 2);
    const outcomes = net.effects.flatMap((effect) => (effect.type === "reply" ? [effect.outcome] : []));
    expect(outcomes).toEqual(["written", "skew"]);
  });

  it("writes again once the clocks of most neighbours show what ours does, although their links have been up since before", () => {
    const net = new Net("a", "b", "c");
    const links = [
      ["a", "b"],
      ["a", "c"],
    ] as const;
    for (const [from, to] of links) net.link(from, to);
    for (const name of net.cores.keys()) net.aheadMs.set(name, 3_600_000); // As on one machine whose clock is set.
    net.share("a", "s", 1);
    net.pass(1_000, ...links);
    net.share("a", "s", 2);
    net.aheadMs.set("a", 0);
    net.share("a", "s", 3);
    const outcomes = net.effects.flatMap((effect) => (effect.type === "reply" ? [effect.outcome] : []));
    expect(outcomes).toEqual(["skew", "written", "skew"]);
  });

  it("checks no more signatures for one peer than that may cost, and finds the rest by comparing", () => {
    const net = new Net("a", "b");
    net.link("a", "b");
    const entries = Array.from({ length: 5_000 }, (_, at): SharedEntry => ({
      ...{ key: `k${at}`, value: Uint8Array.of(1), valueHash: "", override: false, l: WALL_MS, c: at },
      ...{ writer: "b", signature: Uint8Array.of(0), credential: undefined },
    }));
    net.enter("a", { type: "message", peer: "b", message: { type: "shared", entries, toAll: false } });
    const refused = net.effects.filter((effect) => effect.type === "refused");
    expect(refused).toHaveLength(STATE_TIMES.checkBudget.burst);
    expect(net.core("a").shared("k0")).toBeUndefined();
  });

  it.each([
    ["lists what it has of a bucket", { type: "sharedHeads", after: "", upTo: undefined, heads: [] }],
    ["asks for a bucket", { type: "sharedAsk" }],
    ["asks for entries", { type: "sharedPull", keys: Array.from({ length: 64 }, (_, at) => `k${at}`) }],
    ["lists what it has of others' own", { type: "ownHeads", after: "", upTo: undefined, heads: [] }],
    ["asks for others' own", { type: "ownPull", heads: [{ peer: "a", boot: 0, version: 0 }] }],
    ["shows hashes", { type: "buckets", hashes: Array.from({ length: 64 }, () => ({ high: 1, low: 1 })) }],
  ] as const)(
    "answers no more than one peer may cost if it %s without end, and others as ever",
    (_what, asked) => {
      const net = new Net("a", "b", "c");
      net.link("a", "b");
      net.link("a", "c");
      net.loses = () => true; // Neither peer says anything but this.
      const value = new Uint8Array(8_000);
      for (let at = 0; at < 64; at += 1)
        net.enter("a", { type: "share", request: at, key: `k${at}`, value, override: false });
      net.core("a").write("own", value);
      net.enter("a", { type: "tick" });
      const { burst } = STATE_TIMES.answerBudget;
      const ask = (peer: string, times: number): number => {
        const before = net.sent.length;
        for (let count = 0; count < times; count += 1) {
          const message = { ...asked, bucket: count % 64 } as StateMessage;
          net.enter("a", { type: "message", peer, message });
        }
        return net.sent.length - before;
      };
      const bytesOf = (message: StateMessage): number => {
        if (message.type === "shared")
          return message.entries.reduce((sum, entry) => sum + (entry.value?.length ?? 0), 0);
        return message.type === "reset" || message.type === "delta" ? 8_000 : 0;
      };
      const before = net.sent.length;
      ask("b", burst);
      const bytes = net.sent.slice(before).reduce((sum, { message }) => sum + bytesOf(message), 0);
      expect(bytes).toBeLessThan((burst + 1_024) * 1_024);
      expect(ask("b", 1_000)).toBe(0);
      expect(ask("c", 64)).toBeGreaterThan(0);
      net.nowMs += 5_000;
      expect(ask("b", 64)).toBeGreaterThan(0);
    },
  );
});
