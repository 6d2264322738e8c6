import { systemClock } from "@klatsch/kit";
import type { Logger } from "@klatsch/kit";
import { createMesh } from "@klatsch/mesh";
import type { MeshInit } from "@klatsch/mesh";
import { describe, expect, it } from "vitest";
import { Bed, full, next } from "./helpers.ts";

const broken = (): never => {
  throw new Error("from the application");
};
const rejecting = (): Promise<never> => Promise.reject(new Error("from the application"));

describe("what the application gives a mesh", () => {
  it.each<[string, () => unknown]>([
    ["throw", broken],
    ["reject", rejecting],
  ])("breaks nothing where its logger and its listeners %s", async (_how, call) => {
    await using bed = new Bed();
    const logger: Logger = { debug: call, info: call, warn: call, error: call };
    const a = await bed.mesh("a", { logger });
    const events = ["member:joined", "member:stopped", "member:updated", "link:up", "link:down"] as const;
    for (const event of events) a.on(event, call);
    const b = await bed.mesh("b", { logger, bootstrap: a.addresses() });
    await full(a, b);
    await b.setTags({ color: "red" });
    await a.waitFor({ name: "b", tags: { color: "red" } });
    const stopped = next(a, "member:stopped");
    await b.stop();
    expect((await stopped).name).toBe("b");
  });

  it("leaves nothing behind where it lets the start fail, however far that was", async () => {
    await using bed = new Bed();
    const first = await bed.mesh("a");
    const listen = first.addresses().map((address) => address.split("/p2p/")[0] ?? "");
    await first.stop();
    const init: MeshInit = { name: "a", listen, dataDir: bed.dataDir("a") };
    let failures = 0;
    for (let count = 0; ; count += 1) {
      let left = count;
      let isUp = false;
      const now = (): ReturnType<typeof systemClock.now> => {
        if (!isUp && (left -= 1) < 0) throw new Error("no time");
        return systemClock.now();
      };
      const started = await createMesh({ ...init, clock: { now } }).catch((error: unknown) => error);
      isUp = true;
      if (!(started instanceof Error)) {
        await (started as Awaited<ReturnType<typeof createMesh>>).stop();
        break;
      }
      expect(started).toMatchObject({ message: "no time" });
      failures += 1;
    }
    expect(failures).toBeGreaterThan(3);
  });
});
