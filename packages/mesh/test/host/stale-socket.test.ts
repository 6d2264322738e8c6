import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { createMesh } from "@klatsch/mesh";
import { removeStaleSocket } from "../../src/host/conduits.ts";

const PARENT: string = mkdtempSync(join(tmpdir(), "klatsch-socket-"));
afterAll(() => rmSync(PARENT, { recursive: true }));

const addressOf = (file: string): string => `/unix/${encodeURIComponent(file)}`;

describe("a unix address to listen on", () => {
  it("never costs a file that is no socket", async () => {
    const file = join(PARENT, "precious");
    writeFileSync(file, "data");
    const start = createMesh({ name: "a", dataDir: join(PARENT, "a"), listen: [addressOf(file)] });
    await expect(start).rejects.toMatchObject({ code: "LISTEN_FAILED" });
    expect(readFileSync(file, "utf8")).toBe("data");
  });

  it("leaves a socket that answers", async () => {
    const file = join(PARENT, "socket");
    const server = createServer().listen(file);
    await new Promise((resolve) => server.once("listening", resolve));
    await removeStaleSocket(addressOf(file));
    expect(existsSync(file)).toBe(true);
    await new Promise((resolve) => server.close(resolve));
  });
});
