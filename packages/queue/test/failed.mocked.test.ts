import type * as Files from "node:fs/promises";
import { afterEach, describe, expect, it, vi } from "vitest";

import { Nodes, until } from "./support/nodes.ts";

/** What journals write waits for it. */
const disk = vi.hoisted(() => ({ ready: Promise.resolve(), waiting: 0 }));
vi.mock("node:fs/promises", async (original) => {
  const real = await original<typeof Files>();
  const open: typeof real.open = async (...args) => {
    const handle = await real.open(...args);
    const writev = handle.writev.bind(handle);
    handle.writev = async (parts, at) => {
      disk.waiting += 1;
      await disk.ready;
      disk.waiting -= 1;
      return await writev(parts, at);
    };
    return handle;
  };
  return { ...real, open };
});

afterEach(() => void vi.useRealTimers());

describe("a disk that hangs", () => {
  it("fails the queues after a minute, and no enqueue waits any longer", async () => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    await using nodes = await Nodes.start("a");
    const { queues } = nodes.get("a");
    const jobs = await queues.declare("jobs", { replicas: 1 });
    await jobs.enqueue(new Uint8Array(4));
    const failed = vi.fn();
    queues.on("queues:failed", failed);
    const back = Promise.withResolvers<void>();
    using _ = { [Symbol.dispose]: back.resolve };
    disk.ready = back.promise;
    const waiting = expect(jobs.enqueue(new Uint8Array(4))).rejects.toMatchObject({
      code: "FAILED",
      outcome: "unknown",
      message: expect.stringContaining("the disk has not finished a write"),
    });
    await until("it is being written", () => disk.waiting > 0);
    vi.advanceTimersByTime(59_000);
    expect(failed).not.toHaveBeenCalled();
    vi.advanceTimersByTime(1_000);
    await vi.waitFor(() => expect(failed).toHaveBeenCalledOnce());
    await waiting;
    await queues.stop();
  });
});
