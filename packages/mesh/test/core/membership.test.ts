import { SeededRandom } from "@klatsch/kit/core";
import { describe, expect, it } from "vitest";
import { Membership } from "../../src/core/membership.ts";
import type { MembershipEffect, MembershipInput } from "../../src/core/membership-types.ts";
import type { MemberMessage, MemberRecord, View } from "../../src/core/messages.ts";
import { CHANGE_BUDGET } from "../../src/core/standings.ts";
import { MEMBERSHIP_TIMES } from "../../src/core/times.ts";

function record(peer: string, boot = 1): MemberRecord {
  return { peer, boot, inc: 0, name: peer, cloud: "default", tags: {}, addresses: [`/${peer}`] };
}

/** One membership, alone: the test says everything it hears. */
class Node {
  readonly membership: Membership;
  nowMs = 0;

  constructor(membersMax = 8, seeds: readonly string[] = []) {
    this.membership = new Membership(
      {
        self: record("self"),
        seeds: new Map(seeds.map((peer) => [peer, [`/${peer}`]])),
        membersMax,
        times: MEMBERSHIP_TIMES,
        random: new SeededRandom(1),
      },
      this.#now(),
    );
  }

  step(input: MembershipInput): MembershipEffect[] {
    return [...this.membership.step(input, this.#now()), ...this.membership.flush(this.#now())];
  }

  /** Lets time pass in ticks. */
  pass(durationMs: number): MembershipEffect[] {
    const effects: MembershipEffect[] = [];
    for (const until = this.nowMs + durationMs; this.nowMs < until;) {
      this.nowMs += 100;
      effects.push(...this.step({ type: "tick" }));
    }
    return effects;
  }

  link(peer: string, boot = 1): MembershipEffect[] {
    return this.step({ type: "linkUp", peer, link: 1, record: record(peer, boot), digest: undefined });
  }

  views(from: string, ...views: readonly View[]): MembershipEffect[] {
    return this.step({ type: "message", peer: from, message: { type: "views", views } });
  }

  status(peer: string): string | undefined {
    return this.membership.member(peer)?.status;
  }

  #now(): { monoMs: number; wallMs: number } {
    return { monoMs: this.nowMs, wallMs: this.nowMs };
  }
}

function events(effects: readonly MembershipEffect[]): string[] {
  return effects.flatMap((effect) => (effect.type === "emit" ? [effect.event.type] : []));
}

function dials(effects: readonly MembershipEffect[]): string[] {
  return effects.flatMap((effect) => (effect.type === "dial" ? [effect.peer] : []));
}

describe("Membership", () => {
  it("dials its seeds at once, and for ever", () => {
    const node = new Node(8, ["a"]);
    expect(dials(node.step({ type: "tick" }))).toEqual(["a"]);
    node.step({ type: "dialed", peer: "a", outcome: "refused" });
    expect(dials(node.pass(10_000)).length).toBeGreaterThan(0);
  });

  it("tells of a member before it tells of its link", () => {
    expect(events(new Node().link("a"))).toEqual(["joined", "linkUp"]);
  });

  it("judges a suspect that nobody is linked with although a liar's members were chosen to", () => {
    const node = new Node(64);
    node.link("a");
    const ghosts = Array.from({ length: 40 }, (_, index) => `ghost${index}`);
    const vouched = ["x", ...ghosts].map((peer): View => ({
      ...record(peer),
      status: "alive",
      ageMs: 0,
      vouched: true,
    }));
    node.views("a", ...vouched);
    const suspicion = { subject: "x", boot: 1, inc: 0, id: "a:1:1", accuser: "a" };
    node.step({ type: "message", peer: "a", message: { type: "suspect", ...suspicion } });
    const happened: string[] = [];
    for (let atMs = 0; atMs < MEMBERSHIP_TIMES.doubtMsMax; atMs += 100) {
      const effects = node.pass(100);
      for (let effect = effects.shift(); effect !== undefined; effect = effects.shift()) {
        if (effect.type === "emit" && "member" in effect.event && effect.event.member.record.peer === "x")
          happened.push(effect.event.type);
        if (effect.type === "dial")
          effects.push(...node.step({ type: "dialed", peer: effect.peer, outcome: "failed" }));
        if (effect.type !== "send") continue;
        // The liar answers, and for its own, too.
        const { message } = effect;
        const answer = (message: MemberMessage): void =>
          void effects.push(...node.step({ type: "message", peer: "a", message }));
        if (message.type === "ping") answer({ ...message, type: "ack" });
        if (message.type === "pingReq" && message.target !== "x")
          answer({ type: "indirectAck", nonce: message.nonce });
      }
    }
    expect(ghosts.map((ghost) => node.status(ghost))).toEqual(ghosts.map(() => "alive"));
    expect([happened, node.status("x")]).toEqual([["died"], "dead"]);
  });

  it("takes over so many changes of one member a second, and its last word always", () => {
    const node = new Node();
    for (const peer of ["a", "b"]) node.link(peer);
    const says = (inc: number, status: View["status"] = "alive"): MembershipEffect[] =>
      node.views("a", { ...record("a"), inc, tags: { inc: `${inc}` }, status, ageMs: 0 });
    const updates = (effects: readonly MembershipEffect[]): number =>
      events(effects).filter((event) => event === "updated").length;
    const effects: MembershipEffect[] = [];
    for (let inc = 1; inc <= 5_000; inc += 1) {
      effects.push(...says(inc));
      if (inc % 5 === 0) node.nowMs += 1;
    }
    expect(updates(effects)).toBe(CHANGE_BUDGET.burst);
    const told = effects.filter((effect) => effect.type === "send" && effect.to === "b");
    expect(told.length).toBeLessThanOrEqual(CHANGE_BUDGET.burst);
    expect(updates(node.pass(3_000))).toBe(1);
    expect(node.membership.member("a")?.record).toMatchObject({ inc: 5_000, tags: { inc: "5000" } });
    // Stopping and beginning again is no way around, and that it has stopped is known at once.
    const flaps: MembershipEffect[] = [];
    for (let inc = 5_001; inc <= 5_200; inc += 1) flaps.push(...says(inc), ...says(inc, "stopped"));
    expect(node.status("a")).toBe("stopped");
    expect(events(flaps).length).toBeLessThanOrEqual(2 * CHANGE_BUDGET.burst);
    node.pass(2_000);
    says(5_201);
    expect(node.status("a")).toBe("alive");
  });

  it("makes nobody a member on a third party's word, but dials it", () => {
    const node = new Node();
    node.link("a");
    const effects = [...node.views("a", { ...record("b"), status: "alive", ageMs: 0 }), ...node.pass(1_000)];
    expect(node.status("b")).toBeUndefined();
    expect(events(effects)).not.toContain("joined");
    expect(dials(effects)).toContain("b");
    node.pass(MEMBERSHIP_TIMES.unverifiedMs);
    expect(dials(node.pass(30_000))).not.toContain("b");
  });

  it("asks again about whom it was told of before it slept, and then vouches for them to who came since", () => {
    const node = new Node();
    for (const peer of ["a", "c"]) node.link(peer);
    const vouched: View = { ...record("b"), status: "alive", ageMs: 0, vouched: true };
    node.views("a", vouched);
    node.pass(1_000);
    node.nowMs += 5_000; // Asleep.
    node.pass(1_000);
    const toldOf = (effects: readonly MembershipEffect[], to: string): unknown[] =>
      effects.flatMap((effect) =>
        effect.type === "send" && effect.to === to && effect.message.type === "views"
          ? effect.message.views.flatMap(({ peer, vouched: isVouched }) => (peer === "b" ? [isVouched] : []))
          : [],
      );
    const met = [...node.link("d"), ...node.pass(500)];
    expect(toldOf(met, "d")).toEqual([false]);
    const asked = met.flatMap((effect) =>
      effect.type === "send" && effect.message.type === "buckets" ? [effect.to] : [],
    );
    expect(asked).toEqual(["a"]);
    node.views("a", vouched);
    const ping = { type: "ping", nonce: 1, hash: 7 } as const;
    const later: MembershipEffect[] = [];
    for (let round = 0; round < 3; round += 1)
      later.push(...node.step({ type: "message", peer: "d", message: ping }), ...node.pass(1_500));
    expect(toldOf(later, "d")).toContain(true);
  });

  it("has room in a full list for who links, in place of one that others tell of and nobody here can reach", () => {
    const node = new Node(4);
    node.link("a");
    const vouched = (peer: string): View => ({ ...record(peer), status: "alive", ageMs: 0, vouched: true });
    node.views("a", vouched("b"), vouched("c"));
    expect(node.membership.hasRoomFor("d")).toBe(false);
    node.pass(1_000); // It dials.
    node.step({ type: "dialed", peer: "b", outcome: "failed" });
    expect(node.membership.hasRoomFor("d")).toBe(true);
    node.views("a", vouched("e")); // But not for one more of whom others tell.
    expect([node.status("b"), node.status("e")]).toEqual(["alive", undefined]);
    expect(events(node.link("d"))).toEqual(["forgotten", "joined", "linkUp"]);
    expect(["a", "b", "c", "d"].map((peer) => node.status(peer))).toEqual([
      "alive",
      undefined,
      "alive",
      "alive",
    ]);
  });

  it("makes a member of whom a linked member vouches for, passes that on, and dials it when all is quiet", () => {
    const node = new Node();
    node.link("a");
    node.link("c");
    const news = node.views("a", { ...record("b"), status: "alive", ageMs: 0, vouched: true });
    expect(events(news)).toEqual(["joined"]);
    expect(node.membership.member("b")).toMatchObject({
      status: "alive",
      evidence: "reported",
      linked: false,
    });
    const next = [...news, ...node.pass(100)];
    expect(dials(next)).toEqual([]);
    const told = next.flatMap((effect) =>
      effect.type === "send" && effect.to === "c" && effect.message.type === "views"
        ? effect.message.views.filter(({ peer }) => peer === "b")
        : [],
    );
    expect(told.map(({ vouched }) => vouched)).toEqual([true]);
    expect(dials(node.pass(MEMBERSHIP_TIMES.calmMsMax + MEMBERSHIP_TIMES.waitMs))).toContain("b");
  });

  it("vouches after a sleep only for whom it heard since", () => {
    const node = new Node();
    for (const peer of ["a", "b"]) node.link(peer);
    node.views("a", { ...record("d"), status: "alive", ageMs: 0, vouched: true });
    node.nowMs += 10_000;
    // What waited in the sockets is from before.
    node.step({ type: "heard", heard: [{ peer: "b", atMs: node.nowMs + 1 }] });
    node.pass(MEMBERSHIP_TIMES.barMs);
    node.step({ type: "heard", heard: [{ peer: "a", atMs: node.nowMs }] });
    const table = node
      .link("c")
      .flatMap((effect) =>
        effect.type === "send" && effect.to === "c" && effect.message.type === "views"
          ? effect.message.views
          : [],
      );
    const vouched = table.filter((view) => view.vouched === true).map(({ peer }) => peer);
    expect(vouched.toSorted()).toEqual(["a", "c"]);
  });

  it("sends no table to a peer that greets with the same one", () => {
    const [node, peer] = [new Node(), new Node()];
    for (const each of [node, peer]) each.link("a");
    const views = (digest: number): boolean => {
      const effects = node.step({ type: "linkUp", peer: "a", link: 2, record: record("a"), digest });
      return effects.some((effect) => effect.type === "send" && effect.message.type === "views");
    };
    expect([views(node.membership.digest), views(node.membership.digest ^ 1)]).toEqual([false, true]);
    expect(peer.membership.digest).toBe(node.membership.digest);
  });

  it("never brings down a higher boot by what is said of a lower one", () => {
    const node = new Node();
    node.link("a", 5);
    node.link("b");
    node.views("b", { ...record("a", 4), status: "left", ageMs: 0 });
    node.step({
      type: "message",
      peer: "b",
      message: { type: "suspect", subject: "a", boot: 4, inc: 9, id: "x", accuser: "b" },
    });
    expect(node.status("a")).toBe("alive");
  });

  it("takes a word of a suspicion that was taken back for nothing", () => {
    const node = new Node();
    node.link("a");
    node.link("b");
    const suspect = { type: "suspect", subject: "a", boot: 1, inc: 0, id: "x", accuser: "b" } as const;
    node.step({
      type: "message",
      peer: "b",
      message: { type: "heard", subject: "a", boot: 1, id: "x", witness: "b" },
    });
    node.step({ type: "message", peer: "b", message: suspect });
    expect(node.status("a")).toBe("alive");
    node.step({ type: "message", peer: "b", message: { ...suspect, id: "y" } });
    expect(node.status("a")).toBe("suspect");
  });

  it("asks for a higher boot when somebody knows one of it, and says so once it is durable", () => {
    const node = new Node();
    node.link("a");
    const effects = node.views("a", { ...record("self", 7), status: "dead", ageMs: 0 });
    expect(effects).toContainEqual({ type: "raiseBoot", above: 7 });
    node.step({ type: "booted", boot: 8 });
    expect(node.membership.self).toMatchObject({ boot: 8, inc: 0 });
  });

  it("refutes at most once a second", () => {
    const node = new Node();
    node.link("a");
    for (let inc = 0; inc < 50; inc += 1) {
      node.views("a", { ...record("self"), inc, status: "dead", ageMs: 0 });
      node.pass(100);
    }
    // Each rises above the highest that was heard, but only five or six times in five seconds.
    expect(node.membership.self.inc).toBeGreaterThan(40);
    const rises = new Set<number>();
    for (let round = 0; round < 30; round += 1) {
      node.views("a", { ...record("self"), inc: node.membership.self.inc, status: "dead", ageMs: 0 });
      node.pass(100);
      rises.add(node.membership.self.inc);
    }
    expect(rises.size).toBeLessThanOrEqual(5);
  });

  it("forgets who is gone longest rather than turn away who is there", () => {
    const node = new Node(4);
    for (const peer of ["a", "b", "c"]) node.link(peer);
    expect(node.membership.hasRoomFor("d")).toBe(false);
    expect(node.link("d")).toContainEqual(expect.objectContaining({ type: "disconnect", peer: "d" }));
    for (const peer of ["b", "a"]) {
      node.views(peer, { ...record(peer), status: "stopped", ageMs: 0 });
      node.step({ type: "linkDown", peer, reason: "stopped" });
      node.pass(1_000);
    }
    expect(node.membership.hasRoomFor("d")).toBe(true);
    expect(events(node.link("d"))).toEqual(["forgotten", "joined", "linkUp"]);
    expect([node.status("a"), node.status("b")]).toEqual(["stopped", undefined]);
  });

  it("remembers nothing of strangers that were turned away", () => {
    const node = new Node();
    for (let stranger = 0; stranger < 100; stranger += 1) {
      node.step({ type: "turnedAway", peer: `stranger${stranger}` });
    }
    expect(dials(node.pass(60_000))).toEqual([]);
  });

  it("says that it goes before it is gone, and does not wait for who does not answer", () => {
    const node = new Node();
    node.link("a");
    const effects = node.step({ type: "depart", status: "stopped" });
    expect(effects.filter((effect) => effect.type === "departed")).toEqual([]);
    const nonce = effects.flatMap((effect) =>
      effect.type === "send" && effect.message.type === "ping" ? [effect.message.nonce] : [],
    )[0];
    const ack = { type: "message", peer: "a", message: { type: "ack", nonce: nonce ?? 0, hash: 0 } } as const;
    expect(node.step(ack)).toContainEqual({ type: "departed" });

    const silent = new Node();
    silent.link("a");
    silent.step({ type: "depart", status: "left" });
    expect(silent.pass(600)).toContainEqual({ type: "departed" });
  });
});
