import { readFileSync } from "node:fs";
import { join } from "node:path";
import { silentLogger } from "@klatsch/kit";
import type { Logger } from "@klatsch/kit";
import { describe, expect, it, vi } from "vitest";
import type { Mesh } from "@klatsch/mesh";
import { Bed, full } from "./helpers.ts";

/** A node that waits for a mesh: where it listens, and itself once it has joined. */
async function waiting(
  bed: Bed,
  name: string,
): Promise<{ addresses: readonly string[]; mesh: Promise<Mesh> }> {
  const told = Promise.withResolvers<readonly string[]>();
  const mesh = bed.mesh(name, { joinAny: { onWaiting: told.resolve } });
  return { addresses: await told.promise, mesh };
}

describe("a node that joins any mesh", () => {
  it("joins the mesh of the first member that dials it, and stays there", async () => {
    await using bed = new Bed();
    const { addresses, mesh } = await waiting(bed, "new");
    const a = await bed.mesh("a", { mesh: "cups", bootstrap: addresses });
    const joined = await mesh;
    await full(a, joined);
    expect(joined.addresses()).toEqual(addresses);
    expect(readFileSync(join(bed.dataDir("new"), "mesh-name"), "utf8")).toBe("cups\n");
    await joined.stop();
    // Now it knows where it belongs, and waits for nobody.
    const again = await bed.mesh("new", { joinAny: {}, bootstrap: a.addresses() });
    await full(a, again);
  });

  it("is logged, and waits on, where its listener throws", async () => {
    await using bed = new Bed();
    for (const [name, fault] of Object.entries({
      throws: () => {
        throw new Error("ow");
      },
      rejects: () => Promise.reject(new Error("ow")),
    })) {
      const abort = new AbortController();
      const logged = vi.fn<Logger["error"]>(() => abort.abort());
      const options = { joinAny: { onWaiting: fault, signal: abort.signal } };
      await expect(
        bed.mesh(name, { ...options, logger: { ...silentLogger, error: logged } }),
      ).rejects.toMatchObject({
        code: "STOPPED",
      });
      expect(logged).toHaveBeenCalledExactlyOnceWith("joinAny.onWaiting threw", { err: new Error("ow") });
    }
  });

  it("can be told to wait no longer, and asks for a mesh or any, not both", async () => {
    await using bed = new Bed();
    const abort = new AbortController();
    const joinAny = { onWaiting: () => abort.abort(), signal: abort.signal };
    await expect(bed.mesh("a", { joinAny })).rejects.toMatchObject({ code: "STOPPED" });
    await expect(bed.mesh("a", { joinAny: {}, mesh: "cups" })).rejects.toMatchObject({
      code: "INVALID_OPTIONS",
    });
    await expect(bed.mesh("a", { joinAny: {}, admission: "certificate" })).rejects.toThrow(/joinAny/u);
  });
});
