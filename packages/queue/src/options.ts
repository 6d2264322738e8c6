import { types } from "node:util";
import { textOf } from "@klatsch/kit";
import { z } from "zod";

import { SHARDS_MAX } from "./codec/shapes.ts";
import { BODY_BYTES_MAX, HEADER_BYTES_MAX, KEY_MAX, PRIORITY_MAX, REASON_MAX } from "./codec/value.ts";
import type { Binding, ExchangeKind } from "./core/exchange.ts";
import { MANAGE_ITEMS_MAX } from "./core/manage.ts";
import { parseMessageId } from "./core/message-id.ts";
import type { ManageScope, Policy, RetryPolicy } from "./core/types.ts";
import { QueueError } from "./errors.ts";
import type { QueueHooks } from "./hooks.ts";
import type {
  AlterableInit,
  BindOptions,
  BrowseOptions,
  ChangeOptions,
  ConsumeOptions,
  Durability,
  ElectOptions,
  EnqueueItem,
  EnqueueOptions,
  ExchangeInit,
  MessageHeaders,
  MessagesOptions,
  NackOptions,
  Published,
  PublishOptions,
  PublishOutcome,
  QueueChanges,
  QueueInit,
  QueuesInit,
  RetryOptions,
  ScheduleInit,
  StopOptions,
  TakeOptions,
} from "./types.ts";

/** Longest body of a queue whose options say nothing else, in bytes. */
export const BODY_BYTES_DEFAULT: number = 1_024 * 1_024;
/** Longest body that a queue may be declared to take, in bytes: with the longest headers a frame and a batch still hold it. */
export const BODY_BYTES_LIMIT: number = BODY_BYTES_MAX - HEADER_BYTES_MAX;
/** Default of `timeoutMs`, in milliseconds. */
export const TIMEOUT_MS = 10_000;
const DURATION_MS_MAX = 2_147_483_647;
/** Longest delay and time to live, in milliseconds. */
const WAIT_MS_MAX: number = 366 * 24 * 3_600_000;
/** Longest time that a deduplication key counts, in milliseconds. */
const DEDUP_MS_MAX: number = 7 * 24 * 3_600_000;
/** `shards` of an ordered queue unless somebody says otherwise. */
export const SHARDS = 4;

export interface QueueOptions {
  readonly replicas: number;
  readonly leaseMs: number;
  readonly maxDeliveries: number;
  readonly retry?: RetryPolicy | undefined;
  readonly exclusive: boolean;
  readonly groups: boolean;
  readonly dedupMs?: number | undefined;
  readonly shards?: number | undefined;
  readonly maxLength?: number | undefined;
  readonly maxBytes?: number | undefined;
  /** Absent for the default. */
  readonly bodyBytesMax?: number | undefined;
  readonly deadTtlMs?: number | undefined;
  readonly durability: Durability;
}

const durationMs = z.int().max(DURATION_MS_MAX);

const retrySchema: z.ZodType<RetryPolicy, RetryOptions> = z
  .strictObject({
    kind: z.enum(["fixed", "linear", "exponential"]).default("exponential"),
    delayMs: durationMs.min(0).default(100),
    maxMs: durationMs.min(0).default(30_000),
    jitter: z.number().min(0).max(1).default(0.2),
  })
  .refine(({ delayMs, maxMs }) => delayMs <= maxMs, "delayMs exceeds maxMs");

const nackSchema = z
  .strictObject({
    delayMs: z.number().min(0).max(DURATION_MS_MAX).optional(),
    retry: retrySchema.optional(),
    reason: z.string().max(REASON_MAX).optional(),
  })
  .refine(({ delayMs, retry }) => delayMs === undefined || retry === undefined, "delayMs or retry, not both");

const policyFields = {
  leaseMs: durationMs.min(1_000).default(30_000),
  maxDeliveries: z.int().min(1).max(1_000_000).default(20),
  retry: retrySchema.optional(),
  maxLength: z.int().min(1).optional(),
  maxBytes: z.int().min(1).optional(),
  bodyBytesMax: z
    .int()
    .min(1)
    .max(BODY_BYTES_LIMIT)
    .optional()
    .transform((bytes) => (bytes === BODY_BYTES_DEFAULT ? undefined : bytes)),
  deadTtlMs: z.int().min(1_000).max(WAIT_MS_MAX).optional(),
};
/** What `alter` may change; of what a later version wrote, what this one knows. */
export const policySchema: z.ZodType<Policy, AlterableInit> = z.object(policyFields);

const queueSchema: z.ZodType<QueueOptions, QueueInit> = z
  .strictObject({
    ...policyFields,
    replicas: z
      .int()
      .min(1)
      .max(15)
      .refine((count) => count % 2 === 1, "must be odd")
      .default(3),
    exclusive: z.boolean().default(false),
    groups: z.boolean().default(false),
    dedupMs: durationMs.min(1_000).max(DEDUP_MS_MAX).optional(),
    shards: z.int().min(1).max(SHARDS_MAX).optional(),
    durability: z.enum(["fsync", "relaxed"]).default("fsync"),
  })
  .refine(
    ({ groups, dedupMs, shards }) => shards === undefined || groups || dedupMs !== undefined,
    "shards are of queues with groups or dedupMs",
  );

export const nameSchema: z.ZodType<string> = z
  .string()
  .regex(/^[A-Za-z0-9._-]{1,128}$/, "1 to 128 characters of A-Z a-z 0-9 . _ -")
  .refine((name) => !name.endsWith(".dead"), "names that end in .dead are those of dead letters");

const HOOKS = ["beforeEnqueue", "nominate", "vote", "afterAck", "onDead"] as const;

function isHooks(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  // Not their own only: they may be methods of a class.
  return HOOKS.every((name) => {
    const hook = (value as QueueHooks)[name];
    return hook === undefined || typeof hook === "function";
  });
}

const initSchema = z.strictObject({
  mesh: z.custom<QueuesInit["mesh"]>(
    (mesh) => typeof mesh === "object" && mesh !== null && "channel" in mesh,
    "must be a mesh made by createMesh",
  ),
  dataDir: z.string().min(1),
  logger: z
    .custom<QueuesInit["logger"]>((logger) => typeof logger === "object" && logger !== null)
    .optional(),
  hooks: z.custom<QueueHooks>(isHooks, `an object whose ${HOOKS.join(", ")} are functions`).optional(),
  healAfterMs: z.int().min(1_000).max(2_147_483_647).optional(),
});

const HEADERS_MAX = 64;
const HEADER_NAME_MAX = 128;
/** Messages of one `enqueueMany`. */
const MANY_MAX = 10_000;

/** What a producer says about a message, checked. */
export interface MessageOptions {
  readonly headers: MessageHeaders | undefined;
  readonly priority: number;
  readonly delayMs: number;
  readonly ttlMs: number | undefined;
  readonly group: string | undefined;
  readonly dedupKey: string | undefined;
}

function isNoProto(headers: unknown): boolean {
  return typeof headers !== "object" || headers === null || !Object.hasOwn(headers, "__proto__");
}

/** What is half of a character would be another text where it arrives. */
const isText = (text: string): boolean => text.isWellFormed();
const NO_TEXT = "has half of a surrogate pair";

const headersSchema: z.ZodType<MessageHeaders> = z
  .custom<MessageHeaders>(isNoProto, "a header cannot be called __proto__: it would be lost")
  .pipe(
    z.record(
      z.string().min(1).max(HEADER_NAME_MAX).refine(isText, NO_TEXT),
      z.string().max(HEADER_BYTES_MAX).refine(isText, NO_TEXT),
    ),
  )
  .refine((headers) => Object.keys(headers).length <= HEADERS_MAX, `at most ${HEADERS_MAX} headers`);

const messageFields = {
  headers: headersSchema.optional(),
  priority: z.int().min(0).max(PRIORITY_MAX).default(0),
  delayMs: z.number().min(0).max(WAIT_MS_MAX).default(0),
  ttlMs: z.number().min(1).max(WAIT_MS_MAX).optional(),
  group: z.string().min(1).max(KEY_MAX).refine(isText, NO_TEXT).optional(),
  dedupKey: z.string().min(1).max(KEY_MAX).refine(isText, NO_TEXT).optional(),
};
const timeoutSchema = z.strictObject({ timeoutMs: durationMs.min(1).optional() });
const enqueueSchema = z.strictObject({
  ...messageFields,
  timeoutMs: durationMs.min(1).default(TIMEOUT_MS),
});
/** Longest `next` of a page. */
const NEXT_MAX = 128;
const browseSchema = z.strictObject({
  state: z.enum(["any", "alive", "ready", "dead"]).default("alive"),
  limit: z.int().min(1).max(MANAGE_ITEMS_MAX).default(100),
  after: z.string().max(NEXT_MAX).optional(),
  timeoutMs: durationMs.min(1).default(TIMEOUT_MS),
});
const changeSchema = z.strictObject({
  ids: z.array(z.string()).max(MANAGE_ITEMS_MAX).optional(),
  limit: z.int().min(1).default(Number.MAX_SAFE_INTEGER),
  timeoutMs: durationMs.min(1).default(60_000),
});
/** Queues that one publish had gone to at most. */
const RETRIED_MAX = 10_000;
const HEADER_BINDINGS_MAX = 16;
/** Characters of a header's value in a binding: all members keep it. */
export const BOUND_VALUE_MAX = 1_024;
const KEY_LENGTH_MAX = 255;
const keySchema = z.string().max(KEY_LENGTH_MAX).refine(isText, NO_TEXT);
const exchangeNameSchema = z
  .string()
  .regex(/^[A-Za-z0-9._-]{1,64}$/, "1 to 64 characters of A-Z a-z 0-9 . _ -");
const exchangeSchema = z.strictObject({
  kind: z.enum(["direct", "topic", "fanout", "headers", "hash"]).default("direct"),
  alternate: exchangeNameSchema.optional(),
});
const bindSchema = z.strictObject({
  key: keySchema.default(""),
  headers: headersSchema
    .refine((headers) => Object.keys(headers).length <= HEADER_BINDINGS_MAX, `at most ${HEADER_BINDINGS_MAX}`)
    .refine(
      (headers) => Object.values(headers).every(({ length }) => length <= BOUND_VALUE_MAX),
      `a value has at most ${BOUND_VALUE_MAX} characters`,
    )
    .default({}),
  match: z.enum(["all", "any"]).default("all"),
});
const publishedSchema: z.ZodType<Published> = z.object({
  publishId: z.string().regex(/^[0-9a-f]{32}$/, "is not one of a publish"),
  outcomes: z.array(z.custom<PublishOutcome>(isOutcome, "is no outcome of a publish")).max(RETRIED_MAX),
});

function isOutcome(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return false;
  const { queue, id, error }: Partial<Record<keyof PublishOutcome, unknown>> = value;
  const isNamed = nameSchema.safeParse(queue).success && (id === undefined || typeof id === "string");
  return isNamed && (error === undefined || error instanceof QueueError);
}

const itemSchema = z.strictObject({ ...messageFields, body: z.custom<Uint8Array>() });
const PLAIN: MessageOptions = {
  headers: undefined,
  priority: 0,
  delayMs: 0,
  ttlMs: undefined,
  group: undefined,
  dedupKey: undefined,
};
/** Body of a schedule, in bytes: all members keep it. */
export const SCHEDULE_BYTES_MAX: number = 16 * 1_024;
const scheduleSchema: z.ZodType<ScheduleInit> = z
  .strictObject({
    queue: nameSchema,
    cron: z.string().min(1).max(256).optional(),
    everyMs: durationMs.min(1_000).optional(),
    timezone: z.string().min(1).max(64).optional(),
    body: z
      .custom<Uint8Array>(types.isUint8Array, "must be a Uint8Array")
      .refine((body) => lengthOf(body) <= SCHEDULE_BYTES_MAX, `has at most ${SCHEDULE_BYTES_MAX} bytes`),
    headers: headersSchema.optional(),
    priority: messageFields.priority.optional(),
    ttlMs: messageFields.ttlMs,
    group: messageFields.group,
  })
  .refine(
    ({ cron, everyMs }) => (cron === undefined) !== (everyMs === undefined),
    "cron or everyMs, one of them",
  )
  .refine(({ cron, timezone }) => cron !== undefined || timezone === undefined, "timezone goes with cron");
const PREFETCH_MAX = 4_096;
const RATE_MAX = 1_000_000;
const prefetchSchema = z.int().min(1).max(PREFETCH_MAX);
const consumeSchema = z.strictObject({
  prefetch: prefetchSchema.default(64),
  concurrency: prefetchSchema.optional(),
  rate: z.number().positive().max(RATE_MAX).optional(),
});
const messagesSchema = z.strictObject({
  prefetch: prefetchSchema.default(16),
  signal: z.instanceof(AbortSignal).optional(),
});
const takeSchema = z.strictObject({ signal: z.instanceof(AbortSignal).optional() });
const stopSchema = z.strictObject({
  timeoutMs: durationMs.min(1).optional(),
  signal: z.instanceof(AbortSignal).optional(),
});
const electSchema = z.strictObject({
  leaseMs: durationMs.min(1_000).default(10_000),
  signal: z.instanceof(AbortSignal).optional(),
});

/** @throws QueueError `INVALID_OPTIONS` naming the field. */
export function refuse(field: string, why: string): never {
  throw new QueueError("INVALID_OPTIONS", `${field}: ${why}`);
}

/** What `read` returns. An application's own getters and proxies may throw anything there: that is `INVALID_OPTIONS`, too. */
function readable<T>(read: () => T, what: string): T {
  try {
    return read();
  } catch (error) {
    throw new QueueError("INVALID_OPTIONS", `${what}: cannot be read: ${textOf(error)}`, { cause: error });
  }
}

/** Throws `INVALID_OPTIONS` with the path of the first field that is wrong. */
function parse<Out>(schema: z.ZodType<Out>, value: unknown, what: string): Out {
  // The error as well: it is put into words, which read the value again, when it is asked for.
  const { data, error } = readable(() => {
    const result = schema.safeParse(value);
    return { data: result.data, error: result.error };
  }, what);
  if (error === undefined) return data as Out;
  const [issue] = error.issues;
  // A symbol has no text unless it is asked for one.
  const field = [what, ...(issue?.path ?? [])].map(String).join(".");
  throw new QueueError("INVALID_OPTIONS", `${field}: ${issue?.message ?? "invalid"}`, { cause: error });
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

/** The options that a queue has after these changes. */
export function parseChanges(now: Policy, changes: QueueChanges): Policy {
  const given = Object.entries(parse(z.record(z.string(), z.unknown()), changes, "changes"));
  const [other] = given.find(([name]) => !Object.hasOwn(policyFields, name)) ?? [];
  if (other !== undefined) refuse(`changes.${other}`, "cannot be changed of a queue that is there");
  const kept = given.filter(([, value]) => value !== undefined);
  const wanted = kept.map(([name, value]) => [name, value ?? undefined] as const);
  return parse(policySchema, { ...now, ...Object.fromEntries(wanted) }, "changes");
}

export function parseNack(options: NackOptions | undefined): {
  readonly delayMs: number | undefined;
  readonly retry: RetryPolicy | undefined;
  readonly reason: string | undefined;
} {
  const { delayMs, retry, reason } = options === undefined ? {} : parse(nackSchema, options, "options");
  return { delayMs, retry, reason: reason?.toWellFormed() };
}

export function parseBrowse(options: BrowseOptions | undefined): {
  readonly state: ManageScope;
  readonly limit: number;
  readonly after: string | undefined;
  readonly timeoutMs: number;
} {
  const { after, ...rest } = parse(browseSchema, options ?? {}, "options");
  return { after, ...rest };
}

/** `ids` as the core names them, if these are meant and no others. */
export function parseChange(options: ChangeOptions | undefined): {
  readonly ids: readonly { readonly lane: string; readonly seq: number }[] | undefined;
  readonly limit: number;
  readonly timeoutMs: number;
} {
  const { ids, ...rest } = parse(changeSchema, options ?? {}, "options");
  return { ...rest, ids: ids?.map(parseId) };
}

export function parseId(id: string): { readonly lane: string; readonly seq: number } {
  const parsed = typeof id === "string" ? parseMessageId(id) : undefined;
  return parsed ?? refuse("id", "is not a message id");
}

export function parseExchangeName(name: string): string {
  return parse(exchangeNameSchema, name, "name");
}

export function parseExchange(init: ExchangeInit | undefined): {
  readonly kind: ExchangeKind;
  readonly alternate: string | undefined;
} {
  const { kind, alternate } = parse(exchangeSchema, init ?? {}, "options");
  return { kind, alternate };
}

export function parseBinding(queue: string, options: BindOptions | undefined): Binding {
  const { key, headers, match } = parse(bindSchema, options ?? {}, "options");
  return { queue: parseName(queue), key, headers, match };
}

/** The options of a publish, and what an earlier one is told of itself. */
export function parsePublish(options: PublishOptions | undefined): {
  readonly key: string;
  readonly retry: Published | undefined;
  readonly message: MessageOptions;
  readonly timeoutMs: number;
} {
  const { key, retry, ...rest } = readable(() => ({ ...options }), "options");
  const { timeoutMs, ...message } = parseEnqueue(rest);
  return {
    key: parse(keySchema, key ?? "", "options.key"),
    retry: retry === undefined ? undefined : parse(publishedSchema, retry, "options.retry"),
    message,
    timeoutMs,
  };
}

export function parseSchedule(init: ScheduleInit): ScheduleInit {
  return parse(scheduleSchema, init, "options");
}

/** A checked time-out, in milliseconds. */
export function parseTimeout(
  options: { readonly timeoutMs?: number | undefined } | undefined,
  defaultMs: number = TIMEOUT_MS,
): number {
  const { timeoutMs } = parse(timeoutSchema, options ?? {}, "options");
  return timeoutMs ?? defaultMs;
}

export function parseEnqueue(options: EnqueueOptions | undefined): MessageOptions & { timeoutMs: number } {
  if (options === undefined) return { ...PLAIN, timeoutMs: TIMEOUT_MS };
  const { headers, ttlMs, group, dedupKey, ...rest } = parse(enqueueSchema, options, "options");
  return { headers, ttlMs, group, dedupKey, ...rest };
}

/** The messages of one `enqueueMany`, all of them checked. */
export function parseItems(
  items: readonly EnqueueItem[],
): readonly (MessageOptions & { readonly body: Uint8Array })[] {
  const isList = (): boolean => Array.isArray(items) && items.length <= MANY_MAX;
  const own = readable(() => (isList() ? Array.from(items) : undefined), "items");
  if (own === undefined) refuse("items", `must be a list of up to ${MANY_MAX}`);
  return own.map((item, at) => parseItem(item, `items.${at}`));
}

export function parseItem(
  item: EnqueueItem,
  what = "message",
): MessageOptions & { readonly body: Uint8Array } {
  const { headers, ttlMs, group, dedupKey, ...rest } = parse(itemSchema, item, what);
  checkBody(rest.body);
  return { headers, ttlMs, group, dedupKey, ...rest };
}

export function parseConsume(options: ConsumeOptions | undefined): {
  readonly prefetch: number;
  readonly concurrency: number;
  readonly rate: number | undefined;
} {
  const { prefetch, concurrency = prefetch, rate } = parse(consumeSchema, options ?? {}, "options");
  return { prefetch, concurrency, rate };
}

export function parseMessages(options: MessagesOptions | undefined): {
  readonly prefetch: number;
  readonly signal: AbortSignal | undefined;
} {
  const { prefetch, signal } = parse(messagesSchema, options ?? {}, "options");
  return { prefetch, signal };
}

export function parseTake(options: TakeOptions | undefined): TakeOptions {
  return options === undefined ? {} : parse(takeSchema, options, "options");
}

export function parseStop(options: StopOptions | undefined): StopOptions {
  return options === undefined ? {} : parse(stopSchema, options, "options");
}

export function parseElect(options: ElectOptions | undefined): {
  readonly leaseMs: number;
  readonly signal: AbortSignal | undefined;
} {
  const { leaseMs, signal } = parse(electSchema, options ?? {}, "options");
  return { leaseMs, signal };
}

/** What lies in no memory any more has no length either, but cannot be copied. */
function isThere(body: Uint8Array): boolean {
  try {
    Uint8Array.prototype.fill.call(body, 0);
    return true;
  } catch {
    return false;
  }
}

/** As many as will be copied: a class of the application's own may say something else. */
function lengthOf(body: Uint8Array): number {
  return Reflect.get(Object.getPrototypeOf(Uint8Array.prototype) as object, "length", body) as number;
}

/** Throws `INVALID_OPTIONS`, or `MESSAGE_TOO_LARGE` for what no queue, or this one, takes. */
export function checkBody(body: unknown, bytesMax: number = BODY_BYTES_LIMIT): asserts body is Uint8Array {
  if (!types.isUint8Array(body)) throw new QueueError("INVALID_OPTIONS", "body: must be a Uint8Array");
  const length = lengthOf(body);
  if (length === 0 && !isThere(body)) {
    throw new QueueError("INVALID_OPTIONS", "body: its buffer was transferred, or is shorter than it was");
  }
  if (length > bytesMax) {
    const text = `body of ${length} bytes exceeds the limit of ${bytesMax} bytes`;
    throw new QueueError("MESSAGE_TOO_LARGE", text);
  }
}
