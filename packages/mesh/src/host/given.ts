/** What the compiler sees to, and plain JavaScript may pass all the same: each throws MeshError `INVALID_OPTIONS`. */
import { MeshError } from "../errors.ts";

/** @throws MeshError `INVALID_OPTIONS` naming the field. */
export function refuse(field: string, why: string): never {
  throw new MeshError("INVALID_OPTIONS", `${field}: ${why}`);
}

export function checkText(field: string, value: unknown): asserts value is string {
  if (typeof value !== "string") refuse(field, "must be a text");
}

export function checkObject(field: string, value: unknown): asserts value is object {
  if (typeof value !== "object" || value === null) refuse(field, "must be an object");
}

export function checkCount(field: string, value: unknown): void {
  if (!Number.isSafeInteger(value) || Number(value) < 0) refuse(field, "must be a whole number, 0 or more");
}

export function checkFunction(field: string, value: unknown): void {
  if (typeof value !== "function") refuse(field, "must be a function");
}

export function checkOneOf(field: string, value: unknown, choices: readonly string[]): void {
  if (typeof value !== "string" || !choices.includes(value)) {
    refuse(field, `must be one of ${choices.join(", ")}`);
  }
}
