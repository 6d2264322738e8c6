import { claimDirectory, makeDirectory } from "./directory.ts";
import { diskError } from "./errors.ts";
import { checked, directorySchema } from "./given.ts";
import { openLevelDisk } from "./level/level-disk.ts";

/**
 * Keeps everybody else, in this process and others, from the same call until the returned function is called or this
 * process ends, however it ends: the lock is the operating system's, on an empty LevelDB that is made in `directory`.
 *
 * Rejects with {@link StoreError}: `STORE_OPTIONS`, `STORE_LOCKED`, `STORE_IO`, `STORE_DAMAGED`.
 */
export async function lockDirectory(directory: string): Promise<() => Promise<void>> {
  checked(directorySchema, "directory", directory);
  const release = claimDirectory(directory);
  try {
    await makeDirectory(directory);
    const disk = await openLevelDisk(directory, true);
    return async () => {
      await disk.close();
      release();
    };
  } catch (error) {
    release();
    throw diskError(`cannot lock ${directory}`, error);
  }
}
