import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { lockDirectory, StoreError } from "@klatsch/kit/store";
import { fileFailed } from "../errors.ts";
import { HALF_WRITTEN } from "../host/files.ts";
import { asMeshError } from "../host/shared-store.ts";

/** Holds nothing: it is there to be locked. */
const LOCK_DIRECTORY = "lock";
/** A change waits this long for another process to make its own, in milliseconds: that takes a few. */
const WAIT_MS = 5_000;
const AGAIN_MS = 20;
/** Files of an authority; others may be a node's that has its data there, too, and is writing them. */
const OWN = /^(?:(?:root|admin).*\.key|mesh\.json)\./;

/**
 * Makes a change of an authority's files while nobody else does, in this process or another; whoever is killed leaves no lock
 * behind. @throws MeshError `STORE_LOCKED` (retryable) if somebody else goes on for too long, `STORE_FAILED`.
 */
export async function alone<Result>(directory: string, change: () => Promise<Result>): Promise<Result> {
  const unlock = await lock(join(directory, LOCK_DIRECTORY));
  try {
    await removeHalfWritten(directory);
    return await change();
  } finally {
    await unlock();
  }
}

/** Who was killed as it wrote may have left a copy of a key, which would stay when the key itself is moved elsewhere. */
async function removeHalfWritten(directory: string): Promise<void> {
  try {
    for (const name of await readdir(directory))
      if (OWN.test(name) && HALF_WRITTEN.test(name)) await rm(join(directory, name), { force: true });
  } catch (error) {
    throw fileFailed(`cannot look through ${directory}`, error);
  }
}

async function lock(directory: string): Promise<() => Promise<void>> {
  const endMs = performance.now() + WAIT_MS;
  for (;;) {
    try {
      return await lockDirectory(directory);
    } catch (error) {
      const isLocked = error instanceof StoreError && error.code === "STORE_LOCKED";
      if (!isLocked || performance.now() >= endMs) throw asMeshError(error);
    }
    await delay(AGAIN_MS);
  }
}
