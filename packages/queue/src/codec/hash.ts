import { hash } from "node:crypto";

import type { Definition, Descriptor, LaneId, QueueId } from "../core/types.ts";
import { pack } from "./packr.ts";
import * as shapes from "./shapes.ts";

/** SHA-256 of a body, one character a byte. */
export function bodyHash(body: Uint8Array): string {
  return hash("sha256", body, "binary");
}

/** SHA-256 over the encoded descriptor. */
export function laneIdOf(descriptor: Descriptor): LaneId {
  return hash("sha256", pack(shapes.descriptor.write(descriptor)), "hex");
}

/** SHA-256 over the encoded definition. */
export function queueIdOf(definition: Omit<Definition, "queue">): QueueId {
  return hash("sha256", pack(shapes.definition.write({ queue: "", ...definition })), "hex");
}
