import { describe, expect, it } from "vitest";
import { z } from "zod";

import { HEARD_MAX, HELD_BYTES_MAX } from "../src/core/limits.ts";
import { Nodes, until } from "./support/nodes.ts";

const any = z.any();
const MIB = 1_024 * 1_024;

describe("a subscription whose async handlers do not end", () => {
  it("hears no more than a limit, and goes on once they have; others hear all", async () => {
    await using nodes = await Nodes.start("a");
    const { rpc } = nodes.get("a");
    const held = Promise.withResolvers<void>();
    let slow = 0;
    let quick = 0;
    rpc.subscribe("t", any, async () => {
      slow += 1;
      await held.promise;
    });
    rpc.subscribe("t", any, () => (quick += 1));
    const all = HEARD_MAX + 10;
    for (let no = 0; no < all; no += 1) await rpc.emit("t", no);
    await until("all is heard", () => quick === all);
    expect([slow, rpc.stats().valuesDropped]).toEqual([HEARD_MAX, 10]);
    held.resolve();
    await held.promise;
    await until("the next is heard", () => {
      void rpc.emit("t", "next");
      return slow > HEARD_MAX;
    });
  });

  it("holds no more bytes of large values than a limit", async () => {
    await using nodes = await Nodes.start("a", "b");
    const heard: number[] = [];
    nodes.get("b").rpc.subscribe("t", any, async (value: Uint8Array) => {
      heard.push(value.length);
      await new Promise(() => undefined);
    });
    const value = new Uint8Array(3 * MIB);
    const fit = Math.floor(HELD_BYTES_MAX / value.length);
    const { rpc } = nodes.get("a");
    for (let no = 1; no <= fit; no += 1) {
      await rpc.emit("t", value);
      await until("it is heard", () => heard.length === no);
    }
    await rpc.emit("t", value);
    await until("one too many is dropped", () => nodes.get("b").rpc.stats().valuesDropped === 1);
    await rpc.emit("t", new Uint8Array(1));
    await until("a small one is heard", () => heard.at(-1) === 1);
    expect(heard.length).toBe(fit + 1);
  });
});
