import { z } from "zod";

import { QueueError } from "./errors.ts";
import type { ConsumeOptions, EnqueueOptions, QueueInit, QueuesInit } from "./types.ts";

/** Longest body, in bytes. */
const MESSAGE_BYTES_MAX: number = 1_024 * 1_024;
/** Default of `timeoutMs`, in milliseconds. */
export const TIMEOUT_MS = 10_000;
const DURATION_MS_MAX = 2_147_483_647;

export interface QueueOptions {
  readonly replicas: number;
  readonly leaseMs: number;
  readonly maxDeliveries: number;
}

const durationMs = z.int().max(DURATION_MS_MAX);

const queueSchema: z.ZodType<QueueOptions, QueueInit> = z.strictObject({
  replicas: z
    .int()
    .min(1)
    .max(15)
    .refine((count) => count % 2 === 1, "must be odd")
    .default(3),
  leaseMs: durationMs.min(1_000).default(30_000),
  maxDeliveries: z.int().min(1).max(1_000_000).default(20),
});

const nameSchema = z.string().regex(/^[A-Za-z0-9._-]{1,128}$/, "1 to 128 characters of A-Z a-z 0-9 . _ -");

const initSchema = z.strictObject({
  mesh: z.custom<QueuesInit["mesh"]>(
    (mesh) => typeof mesh === "object" && mesh !== null && "channel" in mesh,
    "must be a mesh made by createMesh",
  ),
  dataDir: z.string().min(1),
  logger: z
    .custom<QueuesInit["logger"]>((logger) => typeof logger === "object" && logger !== null)
    .optional(),
});

const enqueueSchema = z.strictObject({ timeoutMs: durationMs.min(1).default(TIMEOUT_MS) });
const consumeSchema = z.strictObject({ prefetch: z.int().min(1).max(4_096).default(64) });

/** Throws `INVALID_OPTIONS` with the path of the first field that is wrong. */
function parse<Out>(schema: z.ZodType<Out>, value: unknown, what: string): Out {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const field = [what, ...(issue?.path ?? [])].join(".");
  throw new QueueError("INVALID_OPTIONS", `${field}: ${issue?.message ?? "invalid"}`, {
    cause: result.error,
  });
}

export function parseInit(init: QueuesInit): QueuesInit {
  return parse(initSchema, init, "createQueues");
}

export function parseName(name: string): string {
  return parse(nameSchema, name, "name");
}

export function parseQueue(init: QueueInit | undefined): QueueOptions {
  return parse(queueSchema, init ?? {}, "options");
}

/** A checked time-out, in milliseconds. */
export function parseTimeout(options: EnqueueOptions | undefined): number {
  return options === undefined ? TIMEOUT_MS : parse(enqueueSchema, options, "options").timeoutMs;
}

export function parsePrefetch(options: ConsumeOptions | undefined): number {
  return parse(consumeSchema, options ?? {}, "options").prefetch;
}

/** Throws `INVALID_OPTIONS` or `MESSAGE_TOO_LARGE`. */
export function checkBody(body: unknown): asserts body is Uint8Array {
  if (!(body instanceof Uint8Array)) {
    throw new QueueError("INVALID_OPTIONS", "body: must be a Uint8Array");
  }
  if (body.length > MESSAGE_BYTES_MAX) {
    const text = `body of ${body.length} bytes exceeds the limit of ${MESSAGE_BYTES_MAX} bytes`;
    throw new QueueError("MESSAGE_TOO_LARGE", text);
  }
}
