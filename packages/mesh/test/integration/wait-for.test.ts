import { describe, expect, it } from "vitest";
import { Bed } from "./helpers.ts";

const namesOf = (members: readonly { readonly name: string }[]): string[] =>
  members.map(({ name }) => name).toSorted();

describe("waitFor", () => {
  it("resolves with all that fit, at once if they are there", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a", { tags: { role: "db" } });
    expect(namesOf(await a.waitFor({}))).toEqual(["a"]);
    const three = a.waitFor({ members: 3, timeoutMs: 10_000 });
    const b = await bed.mesh("b", { bootstrap: a.addresses(), cloud: "north" });
    await bed.mesh("c", { bootstrap: a.addresses(), tags: { role: "db", disk: "ssd" } });
    expect(namesOf(await three)).toEqual(["a", "b", "c"]);
    const databases = await b.waitFor({ members: 2, tags: { role: "db" }, timeoutMs: 10_000 });
    expect(databases.map(({ peerId }) => peerId)).toEqual(databases.map(({ peerId }) => peerId).toSorted());
    expect(namesOf(databases)).toEqual(["a", "c"]);
    expect(namesOf(await b.waitFor({ tags: { role: "db", disk: "ssd" } }))).toEqual(["c"]);
    expect(namesOf(await a.waitFor({ cloud: "north" }))).toEqual(["b"]);
    expect(namesOf(await a.waitFor({ name: "b" }))).toEqual(["b"]);
  });

  it("hears of other tags, and does not count who has gone", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const b = await bed.mesh("b", { bootstrap: a.addresses() });
    await a.waitFor({ members: 2 });
    const ready = a.waitFor({ members: 2, tags: { ready: "yes" } });
    await b.setTags({ ready: "yes" });
    await a.waitFor({ name: "b", tags: { ready: "yes" } });
    await b.stop();
    await a.setTags({ ready: "yes" });
    await expect(a.waitFor({ members: 2, timeoutMs: 0 })).rejects.toMatchObject({ code: "TIMED_OUT" });
    await bed.mesh("c", { bootstrap: a.addresses(), tags: { ready: "yes" } });
    expect(namesOf(await ready)).toEqual(["a", "c"]);
  });

  it("says how many there were when time is over", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a", { tags: { role: "db" } });
    await expect(
      a.waitFor({ members: 3, cloud: "default", tags: { role: "db" }, timeoutMs: 10 }),
    ).rejects.toMatchObject({
      code: "TIMED_OUT",
      retryable: true,
      message: "1 of 3 members in cloud default with role=db after 10 ms",
    });
  });

  it("ends with its signal, and with the mesh", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const reason = new Error("no more");
    await expect(a.waitFor({ members: 2, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const abort = new AbortController();
    const aborted = a.waitFor({ members: 2, signal: abort.signal });
    const ended = a.waitFor({ members: 2 });
    abort.abort(reason);
    await expect(aborted).rejects.toBe(reason);
    await Promise.all([a.stop(), expect(ended).rejects.toMatchObject({ code: "STOPPED" })]);
    await expect(a.waitFor({})).rejects.toMatchObject({ code: "STOPPED" });
  });

  it("refuses what it cannot wait for, naming the field", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    for (const [options, field] of [
      [undefined, "options"],
      [{ member: 3 }, "member"],
      [{ members: 0 }, "members"],
      [{ members: "3" }, "members"],
      [{ name: 3 }, "name"],
      [{ cloud: 3 }, "cloud"],
      [{ tags: { "": "x" } }, "tags"],
      [{ timeoutMs: -1 }, "timeoutMs"],
      [{ timeoutMs: 2 ** 31 }, "timeoutMs"],
      [{ signal: {} }, "signal"],
    ] as const) {
      await expect(a.waitFor(options as never)).rejects.toMatchObject({
        code: "INVALID_OPTIONS",
        message: expect.stringContaining(field) as unknown,
      });
    }
  });
});
