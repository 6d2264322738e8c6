import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { loadIdentity } from "../../src/host/identity.ts";

const PARENT: string = mkdtempSync(join(tmpdir(), "klatsch-identity-"));
afterAll(() => rmSync(PARENT, { recursive: true }));

describe("an identity", () => {
  it("is the same for all who make it at once, and later", async () => {
    const dataDir = join(PARENT, "fresh");
    const made = await Promise.all(Array.from({ length: 5 }, () => loadIdentity(dataDir)));
    const { peerId } = await loadIdentity(dataDir);
    expect(made.map((identity) => identity.peerId)).toEqual(made.map(() => peerId));
    expect(readdirSync(dataDir)).toEqual(["identity.key"]);
  });
});
