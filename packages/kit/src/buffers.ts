import { setFlagsFromString } from "node:v8";

/** The first Node with this setting. */
const NODE_MAJOR = 24;

/**
 * Has V8 count the memory of buffers as it counts its heap, for the whole process. It looks through all of the heap after each
 * 64 MiB of new buffers otherwise, two or three times a second in a node whose messages have 4 KiB. Costs memory: buffers that nobody
 * needs stay longer, 150 MiB and more. Call it once, before there is any load. `false`: this version of Node knows no such
 * setting, and nothing has changed.
 */
export function countBuffersAsHeap(): boolean {
  if (Number.parseInt(process.versions.node, 10) < NODE_MAJOR) return false;
  setFlagsFromString("--external-memory-accounted-in-global-limit");
  return true;
}
