import type { Mesh, SharedChange } from "@klatsch/mesh";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { Schedules } from "../../src/host/schedules.ts";

const HOUR_MS = 3_600_000;
const MINUTE_MS = 60_000;
const NOON = Date.UTC(2026, 11, 1, 12);
const QUEUE = { queue: "jobs", cron: null, timezone: "UTC", body: "", options: {} };

/** A node of its own whose one schedule is due every minute; `dues` has what it enqueued for, as minutes since noon. */
function makeSchedules(writtenWallMs: number): { readonly schedules: Schedules; readonly dues: number[] } {
  const entry = { key: "queue/schedule/tick", writer: "me", writtenWallMs };
  const value = { ...QUEUE, everyMs: MINUTE_MS };
  const written: SharedChange = { ...entry, value, before: undefined } as SharedChange;
  const shared = { entries: () => [written], watch: () => () => undefined };
  const dues: number[] = [];
  const schedules = new Schedules({ state: { shared } } as unknown as Mesh, {
    self: "me",
    peers: () => ["me"],
    enqueue: (_queue, _body, { headers }) => {
      dues.push((Date.parse(headers?.["due"] ?? "") - NOON) / MINUTE_MS);
      return Promise.resolve();
    },
    onMissed: () => undefined,
  });
  return { schedules, dues };
}

/** Time goes on, and the clock shows what it did before and `setMs` more. */
async function setClock(setMs: number): Promise<void> {
  vi.setSystemTime(Date.now() + setMs);
  await vi.advanceTimersByTimeAsync(10_000);
}

describe("a schedule on a node whose clock is wrong", () => {
  beforeEach(() => vi.useFakeTimers({ now: NOON - 1_000 }));
  afterEach(() => vi.useRealTimers());

  it("is followed at once when a clock that was ahead from the start is set right", async () => {
    vi.setSystemTime(NOON + 2 * HOUR_MS - 30_000);
    const { schedules, dues } = makeSchedules(NOON - HOUR_MS);
    await vi.advanceTimersByTimeAsync(1_000);
    dues.length = 0;
    await setClock(-2 * HOUR_MS);
    await vi.advanceTimersByTimeAsync(2 * MINUTE_MS);
    expect(dues).toEqual([-1, 0, 1]);
    expect(schedules.list()[0]?.nextAt?.getTime()).toBe(NOON + 2 * MINUTE_MS);
    schedules.stop();
  });

  it("is followed at once when the clock is set ahead and right again", async () => {
    const { schedules, dues } = makeSchedules(NOON - HOUR_MS);
    await vi.advanceTimersByTimeAsync(2_000);
    expect(dues).toEqual([-1, 0]);
    await setClock(HOUR_MS);
    await setClock(-HOUR_MS);
    dues.length = 0;
    await vi.advanceTimersByTimeAsync(2 * MINUTE_MS);
    expect(dues).toEqual([1, 2]);
    schedules.stop();
  });

  it("enqueues nothing again for what it has seen to, when the clock is set back", async () => {
    const { schedules, dues } = makeSchedules(NOON - HOUR_MS);
    await vi.advanceTimersByTimeAsync(10 * MINUTE_MS);
    dues.length = 0;
    await setClock(-5 * MINUTE_MS);
    await vi.advanceTimersByTimeAsync(3 * MINUTE_MS);
    expect(dues).toEqual([]);
    expect(schedules.list()[0]?.nextAt?.getTime()).toBe(NOON + 10 * MINUTE_MS);
    await vi.advanceTimersByTimeAsync(3 * MINUTE_MS);
    expect(dues).toEqual([10, 11]);
    schedules.stop();
  });

  it("is followed although it was written by a clock that was ahead", async () => {
    const { schedules, dues } = makeSchedules(NOON + HOUR_MS);
    await vi.advanceTimersByTimeAsync(2 * MINUTE_MS);
    expect(dues).toEqual([0, 1]);
    schedules.stop();
  });
});

it("a schedule by cron is followed as soon as it is read: where no file descriptor is left, nothing can be loaded for it", () => {
  const value = { ...QUEUE, everyMs: null, cron: "30 4 * * *" };
  const written = { key: "queue/schedule/tick", writer: "me", writtenWallMs: NOON, value };
  const shared = { entries: () => [written], watch: () => () => undefined };
  const schedules = new Schedules({ state: { shared } } as unknown as Mesh, {} as never);
  expect(schedules.list()[0]?.nextAt?.toISOString()).toMatch(/T04:30:00.000Z$/);
  schedules.stop();
});

it("a schedule has the body it was given, whatever that says of its length and becomes afterwards", async () => {
  class Liar extends Uint8Array {
    override get length(): number {
      return 1;
    }
  }
  const bodies: unknown[] = [];
  const set = (_key: string, { body }: { body: unknown }): void => void bodies.push(body);
  const shared = { entries: () => [], watch: () => () => undefined, set };
  const schedules = new Schedules({ state: { shared } } as unknown as Mesh, {} as never);
  const body = new Liar([1, 2, 3]);
  const made = schedules.set("tick", { queue: "jobs", everyMs: MINUTE_MS, body });
  body.fill(0);
  await made;
  expect(bodies).toEqual([Buffer.of(1, 2, 3).toString("base64")]);
  schedules.stop();
});
