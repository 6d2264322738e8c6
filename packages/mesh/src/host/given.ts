/** What the compiler sees to, and plain JavaScript may pass all the same: each throws MeshError `INVALID_OPTIONS`. */
import { MeshError, readable } from "../errors.ts";

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

/** Whether an option that may be left out is set. */
export function isSet<Name extends string>(
  options: { readonly [_ in Name]?: boolean | undefined } | undefined,
  name: Name,
  otherwise: boolean,
): boolean {
  return readable("options", () => {
    checkObject("options", options ?? {});
    const given: unknown = options?.[name] ?? otherwise;
    return typeof given === "boolean" ? given : refuse(`options.${name}`, "must be true or false");
  });
}

export function checkCount(field: string, value: unknown): void {
  if (!Number.isSafeInteger(value) || Number(value) < 0) refuse(field, "must be a whole number, 0 or more");
}

export function checkFunction(field: string, value: unknown): void {
  if (typeof value !== "function") refuse(field, "must be a function");
}

export function isSignal(value: unknown): boolean {
  return value instanceof AbortSignal && typeof value.aborted === "boolean"; // Throws where it only looks like one.
}

export function checkOneOf(field: string, value: unknown, choices: readonly string[]): void {
  if (typeof value !== "string" || !choices.includes(value)) {
    refuse(field, `must be one of ${choices.join(", ")}`);
  }
}
