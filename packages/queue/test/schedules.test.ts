import { describe, expect, it } from "vitest";

import { Nodes, until } from "./support/nodes.ts";

const BODY = new Uint8Array([1]);
const ORDER = { dedupMs: 180_000, shards: 1 };

describe("a schedule", () => {
  it("enqueues one message for each due time, although every node sees to it", async () => {
    await using nodes = await Nodes.start("a", "b", "c");
    const [jobs] = await nodes.declare("jobs", ORDER);
    const { queues } = nodes.get("a");
    await queues.schedule("tick", { queue: "jobs", everyMs: 1_000, body: BODY, headers: { kind: "tick" } });
    await until("all know it", () =>
      ["a", "b", "c"].every((one) => nodes.get(one).queues.schedules().length === 1),
    );
    const seen: (string | undefined)[] = [];
    const consumer = jobs!.consume(({ headers }) => void seen.push(headers["due"]));
    // The nodes see to it a second apart: by the third due time all have seen to the first.
    await until("three were due", () => seen.length >= 3);
    expect(await queues.unschedule("tick")).toBe(true);
    const dues = (): readonly number[] => seen.map((due) => Date.parse(due ?? "")).toSorted((a, b) => a - b);
    // A node whose turn was not the first is a second later, and a due time may come after the next one.
    await until("each due time came once", () =>
      dues().every((due, index, [first = 0]) => due === first + index * 1_000),
    );
    await consumer.stop();
    expect(dues().length).toBeGreaterThanOrEqual(3);
    expect((dues()[0] ?? 0) % 1_000).toBe(0);
    expect(queues.schedules()).toEqual([]);
  });

  it("outlasts its nodes, and says when it is due next in its time zone", async () => {
    await using nodes = await Nodes.start("a");
    await nodes.declare("jobs", { ...ORDER, replicas: 1 });
    const daily = { queue: "jobs", cron: "30 4 * * *", timezone: "Asia/Kolkata", body: BODY };
    await nodes.get("a").queues.schedule("daily", daily);
    await nodes.end("a");
    const { queues } = await nodes.add("a");
    await until("it is read", () => queues.schedules().length === 1);
    expect(queues.schedules()[0]?.nextAt?.toISOString()).toMatch(/T23:00:00.000Z$/);
  });

  it("is what was written last, a cron entry or not", async () => {
    await using nodes = await Nodes.start("a", "b");
    await nodes.declare("jobs", { ...ORDER, replicas: 1 });
    const { queues } = nodes.get("a");
    const names = Array.from({ length: 10 }, (_, no) => `s${no}`);
    const init = { queue: "jobs", body: BODY };
    await Promise.all(names.map((name) => queues.schedule(name, { ...init, cron: "* * * * * *" })));
    await Promise.all(names.map((name) => queues.schedule(name, { ...init, everyMs: 3_600_000 })));
    for (const at of ["a", "b"]) {
      await until("all are there", () => nodes.get(at).queues.schedules().length === names.length);
      await until("none is a cron entry any more", () =>
        nodes
          .get(at)
          .queues.schedules()
          .every(({ cron }) => cron === undefined),
      );
    }
  });

  it.each([
    [{ cron: "99 * * * *" }, /options.cron/],
    [{ cron: "0 0 30 2 *" }, /options.cron: is never due/],
    [{ cron: "* * * * *", timezone: "Atlantis" }, /options.cron/],
    [{ everyMs: 10 }, /options.everyMs/],
    [{}, /cron or everyMs/],
    [{ everyMs: 1_000, group: "g" }, /options.group/],
    [{ everyMs: 1_000, queue: "plain" }, /needs a dedupMs/],
  ] as const)("is refused as %o", async (wrong, message) => {
    await using nodes = await Nodes.start("a");
    const { queues } = nodes.get("a");
    await queues.declare("plain");
    await queues.declare("jobs", { ...ORDER, replicas: 1 });
    const init = { queue: "jobs", body: BODY, ...wrong };
    await expect(queues.schedule("bad", init)).rejects.toMatchObject({ code: "INVALID_OPTIONS", message });
  });
});
