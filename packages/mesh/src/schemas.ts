import { guardLogger } from "@klatsch/kit";
import type { Clock, Logger } from "@klatsch/kit";
import { multiaddr } from "@multiformats/multiaddr";
import { z } from "zod";
import {
  ADDRESS_LENGTH_MAX,
  NAME_PATTERN,
  TAG_KEY_LENGTH_MAX,
  TAG_VALUE_LENGTH_MAX,
  TAGS_MAX,
} from "./codec/record-codec.ts";
import { invalidOptions, readable } from "./errors.ts";
import { isSignal } from "./host/given.ts";

/** No file system takes a longer path; errors may quote this much. */
const PATH_CHARS_MAX = 4_096;
/** Addresses to listen on. */
export const LISTEN_MAX = 8;

// What the options of several functions are made of.

export const nameSchema: z.ZodType<string, string> = z
  .string()
  .regex(NAME_PATTERN, "must be 1 to 64 characters of A-Z a-z 0-9 . _ -");

export const directorySchema: z.ZodType<string, string> = z.string().min(1).max(PATH_CHARS_MAX);

export const addressSchema: z.ZodType<string, string> = z
  .string()
  .max(ADDRESS_LENGTH_MAX)
  .refine(isMultiaddr, "is no multiaddr such as /ip4/127.0.0.1/tcp/4001");

export const tagsSchema: z.ZodType<Record<string, string>, Readonly<Record<string, string>>> = z
  .record(z.string().min(1).max(TAG_KEY_LENGTH_MAX), z.string().max(TAG_VALUE_LENGTH_MAX))
  .refine((given) => Object.keys(given).length <= TAGS_MAX, `has more than ${TAGS_MAX} entries`);

export const clockSchema: z.ZodType<Clock> = portSchema("now");
export const loggerSchema: z.ZodType<Logger> = portSchema<Logger>("debug", "info", "warn", "error").transform(
  guardLogger,
);

/** An object of the application's that has these methods. */
export function portSchema<Port>(...methods: readonly string[]): z.ZodType<Port> {
  return z.custom<Port>(
    (value) =>
      methods.every((method) => typeof (value as Record<string, unknown> | null)?.[method] === "function"),
    `needs ${methods.map((method) => `${method}()`).join(", ")}`,
  );
}

/** Its prototype alone makes no signal. */
export const signalSchema: z.ZodType<AbortSignal> = z.custom<AbortSignal>(isSignal, "must be an AbortSignal");

export function functionSchema<Given>(): z.ZodType<Given> {
  return z.custom<Given>((value) => typeof value === "function", "must be a function");
}

/** `whole` names what is not part of an object. @throws MeshError `INVALID_OPTIONS` naming the field. */
export function parseWith<Value>(schema: z.ZodType<Value>, value: unknown, whole?: string): Value {
  // Compiling a parser that runs once costs more than running it.
  // The error as well: it is put into words, which read the value again, when it is asked for.
  const { data, error } = readable(whole ?? "options", () => {
    const parsed = schema.safeParse(value, { jitless: true });
    return { data: parsed.data, error: parsed.error };
  });
  if (error === undefined) return data as Value;
  throw invalidOptions(error, whole);
}

export function isMultiaddr(value: string): boolean {
  try {
    multiaddr(value);
    return true;
  } catch {
    return false;
  }
}
