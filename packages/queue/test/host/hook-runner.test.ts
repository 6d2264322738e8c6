import { silentLogger } from "@klatsch/kit";
import { describe, expect, it } from "vitest";

import { PLAIN } from "../../src/core/register.ts";
import { HookRunner } from "../../src/host/hook-runner.ts";
import { parseEnqueue } from "../../src/options.ts";
import { failuresOf } from "../../src/host/message.ts";

const CANDIDATES = ["1", "2", "3"].map((session) => ({ peer: "p", session }));
const LEASE = { queue: "q", lane: "l", seq: 0, epoch: 1, holder: { peer: "p", session: "1" } };

const PLAIN_OPTIONS = parseEnqueue(undefined);

function makeRunner(hooks: object): HookRunner {
  return new HookRunner(hooks, silentLogger, () => "jobs");
}

function thrower(): never {
  throw new Error("this getter throws");
}

describe("a hook that the core asks", () => {
  it.each([
    ["throw when they are looked at", () => new Proxy({}, { get: thrower }), "threw"],
    ["are promises", () => Promise.reject(new Error("too late")), "invalid"],
    ["are nothing of the kind", () => Symbol("me"), "invalid"],
  ] as const)("decides nothing by answers that %s", async (_, answer, fault) => {
    const rejected: unknown[] = [];
    const note = (reason: unknown): void => void rejected.push(reason);
    process.on("unhandledRejection", note);
    const runner = makeRunner({ nominate: answer, vote: answer });
    expect(runner.core.nominate?.("q", CANDIDATES)).toBeUndefined();
    expect(runner.core.vote?.(LEASE)).toBe(true);
    await new Promise((resolve) => setImmediate(resolve));
    process.off("unhandledRejection", note);
    expect(rejected).toEqual([]);
    expect(runner.counts().get("nominate")?.faults[fault]).toBe(1);
    expect(runner.counts().get("vote")?.faults.invalid).toBe(1);
  });

  it("nominates whom it means, although it sorts what it is shown", () => {
    const nominate = (_queue: string, shown: { session: string }[]): unknown =>
      shown.sort((one, other) => other.session.localeCompare(one.session))[0];
    expect(makeRunner({ nominate }).core.nominate?.("q", CANDIDATES)).toBe(2);
    expect(CANDIDATES[0]).toEqual({ peer: "p", session: "1" });
  });
});

describe("a hook that messages wait for", () => {
  it("changes no headers by writing into those it is shown", async () => {
    const beforeEnqueue = ({ headers }: { headers: Record<string, unknown> }): void => {
      headers["trace"] = 5n;
    };
    const options = { ...PLAIN_OPTIONS, headers: { trace: "1" } };
    const { headers } = await makeRunner({ beforeEnqueue }).beforeEnqueue("jobs", new Uint8Array(1), options);
    expect([headers, options.headers]).toEqual([{ trace: "1" }, { trace: "1" }]);
  });

  it("has no more of them wait than may wait for a quorum, by number or by bytes", async () => {
    const gate = Promise.withResolvers<undefined>();
    const runner = makeRunner({ beforeEnqueue: () => gate.promise });
    const enter = (bytes: number): Promise<unknown> =>
      runner.beforeEnqueue("jobs", new Uint8Array(bytes), PLAIN_OPTIONS);
    const long = Array.from({ length: 16 }, () => enter(4 * 1_024 * 1_024));
    await expect(enter(1)).rejects.toMatchObject({ code: "OVERLOADED", outcome: "none" });
    gate.resolve(undefined);
    await Promise.all(long);
    await enter(1);
  });
});

describe("the history of a message that an application is given", () => {
  it("is its own, whatever it does to it", () => {
    const failure = { epoch: 1, atWallMs: 1, peer: "p", reason: "r" };
    const attributes = { ...PLAIN, failures: [failure] };
    const given = failuresOf(attributes) as unknown as { reason: string }[];
    given.push({ reason: "mine" });
    if (given[0] !== undefined) given[0].reason = "mine";
    expect(attributes.failures).toEqual([{ epoch: 1, atWallMs: 1, peer: "p", reason: "r" }]);
    expect(() => (failuresOf(PLAIN) as unknown as number[]).push(1)).toThrow(TypeError);
    expect(PLAIN.failures).toEqual([]);
  });
});
