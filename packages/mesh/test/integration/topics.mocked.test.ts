import { describe, expect, it, vi } from "vitest";
import { Bed } from "./helpers.ts";

const starts = vi.hoisted(() => ({ toFail: 2 }));
vi.mock("@libp2p/gossipsub", async (original) => {
  const real = await original<{ readonly gossipsub: (init: object) => unknown }>();
  return {
    ...real,
    gossipsub: (init: object) => {
      starts.toFail -= 1;
      if (starts.toFail >= 0) throw new Error("too many open files");
      return real.gossipsub(init);
    },
  };
});

describe("topics that cannot be started", () => {
  it("say so with a code, and are started once they can be", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const heard: string[] = [];
    a.topics.subscribe("news", ({ body }) => heard.push(Buffer.from(body).toString()));
    const publish = async (text: string): Promise<void> => await a.topics.publish("news", Buffer.from(text));
    await expect(publish("no")).rejects.toMatchObject({ code: "STORE_FAILED", retryable: true });
    await expect(publish("no")).rejects.toMatchObject({ name: "MeshError" });
    await publish("yes");
    expect(heard).toEqual(["yes"]);
  });

  it("are tried again for who has subscribed", async () => {
    starts.toFail = 1;
    await using bed = new Bed();
    const a = await bed.mesh("a");
    a.topics.subscribe("news", () => undefined);
    await vi.waitFor(() => expect(a.state.get(a.peerId, "klatsch/topics")).toBe(1), 10_000);
  });
});
