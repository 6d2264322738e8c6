/** What the compiler sees to, and plain JavaScript may pass all the same. */
import { z } from "zod";
import { excerpt } from "../core/errors.ts";
import { StoreError } from "./errors.ts";

/** No file system takes a longer path; errors may quote this much. */
const PATH_CHARS_MAX = 4_096;

export const directorySchema: z.ZodType<string> = z.string().min(1).max(PATH_CHARS_MAX);

/** @throws StoreError `STORE_OPTIONS` naming the field, or `whole` if it is none of its fields. */
export function checked<Value>(schema: z.ZodType<Value>, whole: string, given: unknown): Value {
  const parsed = schema.safeParse(given);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const field = issue?.path.join(".") || whole;
  throw new StoreError("STORE_OPTIONS", `${field}: ${excerpt(issue?.message ?? "invalid")}`, {
    cause: parsed.error,
  });
}

/** @throws StoreError `STORE_OPTIONS`. */
export function checkArgument(isRight: boolean, field: string, what: string): void {
  if (!isRight) throw new StoreError("STORE_OPTIONS", `${field}: must be ${what}`);
}

/** Of a key that is read, or the beginning of keys. @throws StoreError `STORE_KEY`. */
export function checkText(field: string, value: unknown): void {
  if (typeof value !== "string") throw new StoreError("STORE_KEY", `${field}: must be a string`);
}
