import { describe, expect, it } from "vitest";

import { Members } from "./members.ts";

/** Longest time between two acknowledged enqueues of the same member, in milliseconds. */
function longestGap(members: Members, name: string): number {
  const at = members.reports("enqueued").filter((entry) => entry.name === name);
  return at.reduce((gap, entry, i) => Math.max(gap, entry.atMs - (at[i - 1]?.atMs ?? entry.atMs)), 0);
}

const doubleHolders = (members: Members): readonly string[] =>
  [...members.holders].filter(([, count]) => count > 1).map(([key]) => key);

describe("three members, one killed while the others produce and consume", () => {
  it.each(["a", "b", "c"])("loses nothing and goes on when %s dies", async (victim) => {
    await using members = await Members.start("a", "b", "c");
    const [producer = "", consumer = ""] = ["a", "b", "c"].filter((name) => name !== victim);
    members.tell(producer, { type: "produce", inFlight: 16, pauseMs: 20 });
    members.tell(consumer, { type: "consume" });
    await members.until("work is under way", () => members.acked >= 200);
    await members.signal(victim, "SIGKILL");
    const before = members.acked;
    await members.until("work goes on", () => members.acked >= before + 500);
    members.tell(producer, { type: "rest" });
    await members.until("every acknowledged message is consumed", () => members.missing.size === 0);
    expect(longestGap(members, producer)).toBeLessThan(2_000);
    expect(doubleHolders(members)).toEqual([]);
  });

  it("brings back what a killed producer's own lanes held", async () => {
    await using members = await Members.start("a", "b", "c");
    members.tell("a", { type: "produce", inFlight: 16 });
    await members.until("a backlog", () => members.reports("enqueued").length >= 500);
    await members.signal("a", "SIGKILL");
    members.tell("b", { type: "consume" });
    await members.until("all of it is delivered", () => members.missing.size === 0);
    expect(doubleHolders(members)).toEqual([]);
  });
});

describe("three members, one paused for longer than it takes to be declared dead", () => {
  // Both at once: they wait for most of their time.
  it.concurrent.each(["a", "b"])(
    "loses nothing and doubles no epoch when %s wakes again",
    { timeout: 90_000 },
    async (name) => {
      await using members = await Members.start("a", "b", "c");
      // Few enough to leave others some of the processor: this goes on for ten seconds and more.
      members.tell("a", { type: "produce", inFlight: 16, pauseMs: 40 });
      members.tell("b", { type: "consume" });
      members.tell("c", { type: "consume" });
      await members.until("work is under way", () => members.acked >= 200);
      await members.signal(name, "SIGSTOP");
      await new Promise((resolve) => setTimeout(resolve, 9_000));
      await members.signal(name, "SIGCONT");
      const before = members.acked;
      await members.until("work goes on", () => members.acked >= before + 500);
      members.tell("a", { type: "rest" });
      await members.until("every acknowledged message is consumed", () => members.missing.size === 0);
      expect(doubleHolders(members)).toEqual([]);
    },
  );
});

describe("three members, two killed", () => {
  it("refuses in bounded time, and has everything acknowledged once they are back", async () => {
    await using members = await Members.start("a", "b", "c");
    members.tell("a", { type: "produce", inFlight: 4 });
    await members.until("some messages", () => members.reports("enqueued").length >= 100);
    await Promise.all([members.signal("b", "SIGKILL"), members.signal("c", "SIGKILL")]);
    members.tell("a", { type: "rest" });
    members.tell("a", { type: "enqueueOnce", timeoutMs: 1_500 });
    const answer = await members.next("a", "answered", 0);
    expect(["QUORUM_UNAVAILABLE", "INDETERMINATE"]).toContain(answer.code);
    expect(answer.tookMs).toBeLessThan(5_000);
    await members.add("b");
    await members.add("c");
    members.tell("b", { type: "consume" });
    await members.until("all that was acknowledged is delivered", () => members.missing.size === 0);
    expect(doubleHolders(members)).toEqual([]);
  });
});

describe("a relaxed queue", () => {
  it("has everything acknowledged after all of its members were killed at once", async () => {
    await using members = await Members.startWith("relaxed", "a", "b", "c");
    members.tell("a", { type: "produce", inFlight: 64 });
    members.tell("b", { type: "consume" });
    await members.until("work is under way", () => members.acked >= 500);
    await Promise.all(["a", "b", "c"].map((name) => members.signal(name, "SIGKILL")));
    for (const name of ["a", "b", "c"]) await members.add(name);
    await members.meet();
    members.tell("c", { type: "consume" });
    await members.until("all that was acknowledged is delivered", () => members.missing.size === 0);
    expect(doubleHolders(members)).toEqual([]);
  });
});
