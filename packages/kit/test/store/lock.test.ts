import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { lockDirectory } from "@klatsch/kit/store";
import { withDirectory } from "../support/store-kit.ts";

const CHILD = new URL("../support/lock-child.ts", import.meta.url);

describe("lockDirectory", () => {
  it("keeps others in this process out until it is let go", () =>
    withDirectory(async (parent) => {
      const directory = join(parent, "lock");
      const unlock = await lockDirectory(directory);
      await expect(lockDirectory(directory)).rejects.toMatchObject({ code: "STORE_LOCKED", retryable: true });
      await unlock();
      await (
        await lockDirectory(directory)
      )();
      await expect(lockDirectory("")).rejects.toMatchObject({ code: "STORE_OPTIONS" });
    }));

  it("keeps other processes out, and ends with the one that has it, even by SIGKILL", () =>
    withDirectory(async (directory) => {
      const child = fork(CHILD, [directory], { execArgv: ["--conditions=klatsch-source"] });
      await once(child, "message");
      await expect(lockDirectory(directory)).rejects.toMatchObject({ code: "STORE_LOCKED" });
      child.kill("SIGKILL");
      await once(child, "exit");
      await (
        await lockDirectory(directory)
      )();
    }));
});
