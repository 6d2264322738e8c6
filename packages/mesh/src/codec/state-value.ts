import { Packr } from "msgpackr";
import type { StateValue } from "../state-types.ts";
import { isPlainValue } from "./scan.ts";
import type { ScanLimits } from "./scan.ts";

const packr = new Packr({ useRecords: false, mapsAsObjects: true, variableMapSize: true });

/** Plain data; nested at most so deep. */
const LIMITS: ScanLimits = { depthMax: 16, int64: false, binary: true, maps: true };

/** Encodes a value of the application's; `undefined` if it is no plain data. */
export function encodeStateValue(value: StateValue): Uint8Array | undefined {
  if (!isPlain(value, 0)) return undefined;
  const bytes = Uint8Array.from(packr.pack(value));
  return isStateValue(bytes) ? bytes : undefined; // It may have too many parts.
}

/** Dates, sets, functions and the like would come out as something else. */
function isPlain(value: unknown, depth: number): boolean {
  if (depth > LIMITS.depthMax) return false;
  if (value === null || value instanceof Uint8Array) return true;
  // Not `every`, which passes over what is missing: that may be far more than there is.
  if (Array.isArray(value)) {
    for (const item of value as readonly unknown[]) if (!isPlain(item, depth + 1)) return false;
    return true;
  }
  if (typeof value !== "object") return ["boolean", "number", "string"].includes(typeof value);
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return false;
  if (Object.hasOwn(value, "__proto__")) return false; // Readers get it under another name, lest it be a prototype.
  return Object.values(value).every((item) => isPlain(item, depth + 1));
}

/** Whether the bytes are one value: checked before anything of a peer's is kept. */
export function isStateValue(bytes: Uint8Array): boolean {
  return isPlainValue(bytes, LIMITS);
}

/** A value of its own for each caller, who may change it. */
export function decodeStateValue(bytes: Uint8Array): StateValue {
  // A copy: byte strings in it would else be views into what we keep.
  return packr.unpack(Uint8Array.from(bytes)) as StateValue;
}
