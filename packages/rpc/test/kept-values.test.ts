import { contract, method } from "@klatsch/rpc";
import { describe, expect, it } from "vitest";
import { z } from "zod";

import { Nodes, until } from "./support/nodes.ts";

const any = z.any();

describe("what is kept", () => {
  it("of a topic is what was emitted, whatever becomes of it later", async () => {
    await using nodes = await Nodes.start("a", "b");
    const status = { load: 1 };
    const { rpc } = nodes.get("a");
    const live: unknown[] = [];
    for (const one of nodes.all()) one.rpc.subscribe("status", any, (value) => live.push(value));
    await rpc.emit("status", status);
    status.load = 2;
    await rpc.emit("status", status);
    status.load = 3;
    await until("all is heard that comes live", () => live.length === 4);
    const far: unknown[] = [];
    const near: unknown[] = [];
    nodes.get("b").rpc.subscribe("status", any, (value) => far.push(value), { last: 2 });
    rpc.subscribe("status", any, (value) => near.push(value), { last: 2 });
    await until("all is heard", () => far.length + near.length === 4);
    expect([far, near]).toEqual([
      [{ load: 1 }, { load: 2 }],
      [{ load: 1 }, { load: 2 }],
    ]);
  });

  it("of a topic is nothing that is too large to be told, and its emitter hears of that", async () => {
    await using nodes = await Nodes.start("a");
    const { rpc } = nodes.get("a");
    await expect(rpc.emit("status", "x".repeat(5 * 1024 * 1024))).rejects.toMatchObject({
      code: "TOO_LARGE",
    });
    await rpc.emit("status", "short");
    const heard: unknown[] = [];
    rpc.subscribe("status", any, (value) => heard.push(value), { last: 2 });
    await until("it is heard", () => heard.length > 0);
    expect(heard).toEqual(["short"]);
  });

  it("for a key is what the handler gave, whatever becomes of it later", async () => {
    await using nodes = await Nodes.start("a", "b");
    const api = contract({
      name: "api",
      methods: { load: method({ input: any, output: any, access: "members" }) },
    });
    const status = { load: 1 };
    nodes.get("b").rpc.serve(api, { load: () => status });
    const call = async (): Promise<unknown> =>
      await nodes.get("a").rpc.peer(nodes.get("b").id, api).load(1, { idempotencyKey: "k" });
    expect(await call()).toEqual({ load: 1 });
    status.load = 2;
    expect(await call()).toEqual({ load: 1 });
  });
});
