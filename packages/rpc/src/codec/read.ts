/** Bytes that are not what the protocol says. Caught at the frame: the peer's session ends, nothing else. */
export class CodecError extends Error {
  override readonly name: string = "CodecError";
}

/** The values of one item. A value beyond those read is a later version's and ignored. */
export type Values = readonly unknown[];

export function uintAt(values: Values, at: number, max: number = Number.MAX_SAFE_INTEGER): number {
  const value = values[at];
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= max) return value;
  throw new CodecError(`field ${at}: expected a whole number up to ${max}`);
}

export function boolAt(values: Values, at: number): boolean {
  const value = values[at];
  if (typeof value === "boolean") return value;
  throw new CodecError(`field ${at}: expected a boolean`);
}

export function textAt(values: Values, at: number, lengthMax: number): string {
  const value = values[at];
  if (typeof value === "string" && value.length <= lengthMax) return value;
  throw new CodecError(`field ${at}: expected text of up to ${lengthMax} characters`);
}

export function bytesAt(values: Values, at: number, lengthMax: number): Uint8Array {
  const value = values[at];
  if (value instanceof Uint8Array && value.length <= lengthMax) return value;
  throw new CodecError(`field ${at}: expected up to ${lengthMax} bytes`);
}

/** Whether a field is absent or null. */
export function isAbsent(values: Values, at: number): boolean {
  return values[at] === undefined || values[at] === null;
}
