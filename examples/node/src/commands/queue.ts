/** Commands about queues. */
import { createReadStream } from "node:fs";
import type { QueueChanges } from "@klatsch/queue";
import { pairOf } from "../config.ts";
import { NodeError } from "../errors.ts";
import { table } from "../format.ts";
import { outFile } from "../out-file.ts";
import type { QueueArgs, QueueStatus } from "../protocol.ts";
import { connectTo, printJson } from "./node.ts";
import type { NodeFlags } from "./node.ts";

/** No queue takes a longer message, in bytes: no more is read from standard input or a file. */
const BODY_BYTES_MAX: number = 8 * 1_024 * 1_024 - 16 * 1_024;

/** Options of the queue, where they differ from the defaults. */
export interface QueueFlags extends NodeFlags {
  readonly replicas?: number;
  readonly leaseMs?: number;
  readonly maxDeliveries?: number;
  readonly groups?: true;
  readonly dedupMs?: number;
  readonly shards?: number;
  readonly maxLength?: number;
  readonly maxBytes?: number;
  readonly bodyBytesMax?: number;
  readonly deadTtlMs?: number;
  readonly relaxed?: true;
}

function argsOf(queue: string, flags: QueueFlags): QueueArgs {
  const { replicas, leaseMs, maxDeliveries, groups, dedupMs, shards, relaxed } = flags;
  const { maxLength, maxBytes, bodyBytesMax, deadTtlMs } = flags;
  const order = { groups, dedupMs, shards };
  const limits = { maxLength, maxBytes, bodyBytesMax, deadTtlMs };
  return { queue, replicas, leaseMs, maxDeliveries, ...order, ...limits, relaxed };
}

export async function declare(queue: string, flags: QueueFlags): Promise<void> {
  await using client = await connectTo(flags);
  console.log(queuesTable([await client.call("queue.declare", argsOf(queue, flags))]));
}

const ALTERED = ["leaseMs", "maxDeliveries", "maxLength", "maxBytes", "bodyBytesMax", "deadTtlMs"] as const;
type AlterFlags = { readonly [Name in (typeof ALTERED)[number]]?: number | "default" };

export async function alter(queue: string, flags: NodeFlags & AlterFlags): Promise<void> {
  await using client = await connectTo(flags);
  const changed = ALTERED.map((name) => [name, flags[name] === "default" ? null : flags[name]] as const);
  const changes: QueueChanges = Object.fromEntries(changed);
  console.log(queuesTable([await client.call("queue.alter", { queue, changes })]));
}

export async function list(flags: NodeFlags & { readonly json?: true }): Promise<void> {
  await using client = await connectTo(flags);
  const all = await client.call("queue.list", {});
  if (flags.json === true) printJson(all);
  else console.log(queuesTable(all));
}

function queuesTable(queues: readonly QueueStatus[]): string {
  return table(
    ["NAME", "REPLICAS", "LEASE MS", "MAX DELIVERIES", "MAX LENGTH", "MAX BYTES", "DURABILITY", "DEPTH"],
    queues.map((queue) => [
      queue.name,
      String(queue.replicas),
      String(queue.leaseMs),
      String(queue.maxDeliveries),
      String(queue.maxLength ?? "none"),
      String(queue.maxBytes ?? "none"),
      queue.durability,
      String(queue.depth),
    ]),
  );
}

export async function put(
  queue: string,
  text: string | undefined,
  flags: QueueFlags & {
    readonly file?: string;
    readonly group?: string;
    readonly dedupKey?: string;
    readonly priority?: number;
    readonly delayMs?: number;
    readonly ttlMs?: number;
    readonly header?: readonly string[];
    readonly timeoutMs?: number;
  },
): Promise<void> {
  const headers = flags.header === undefined ? undefined : headersOf(flags.header);
  const body = await bodyOf(text, flags.file);
  await using client = await connectTo(flags);
  const { timeoutMs, group, dedupKey, priority, delayMs, ttlMs } = flags;
  const message = { body: body.toString("base64"), group, dedupKey, priority, delayMs, ttlMs, headers };
  const args = { ...argsOf(queue, flags), ...message, timeoutMs };
  const { id, duplicate } = await client.call("queue.put", args);
  console.log(id);
  if (duplicate) console.error("it was there already");
}

function headersOf(texts: readonly string[]): Readonly<Record<string, string>> {
  const headers = new Map<string, string>();
  for (const text of texts) {
    const [name, value] = pairOf(text, "header: must be name=value");
    if (headers.has(name)) throw new NodeError("USAGE", `header: ${name} is there twice`);
    headers.set(name, value);
  }
  return Object.fromEntries(headers);
}

async function bodyOf(text: string | undefined, file: string | undefined): Promise<Buffer> {
  if (text !== undefined && file !== undefined) throw new NodeError("USAGE", "file: there is a text already");
  if (text !== undefined) return Buffer.from(text);
  if (file === undefined) return await readAll(process.stdin, "standard input");
  try {
    return await readAll(createReadStream(file), file);
  } catch (error) {
    if (error instanceof NodeError) throw error;
    throw new NodeError("USAGE", `file: ${messageOf(error)}`);
  }
}

async function readAll(source: AsyncIterable<Buffer>, name: string): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of source) {
    length += chunk.length;
    if (length > BODY_BYTES_MAX) {
      throw new NodeError("USAGE", `${name}: a message has at most ${BODY_BYTES_MAX} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export async function take(
  queue: string,
  flags: QueueFlags & { readonly timeoutMs?: number; readonly out?: string; readonly ack: boolean },
): Promise<void> {
  // First of all: what cannot be written must not be taken.
  const write = flags.out === undefined ? writeOut : await outFile(flags.out);
  await using client = await connectTo(flags);
  const { timeoutMs } = flags;
  const { hold, body } = await client.call("queue.take", { ...argsOf(queue, flags), timeoutMs });
  await write(Buffer.from(body, "base64"));
  // Only now: a message that reached nobody must come again.
  await client.call("queue.settle", { hold, verdict: flags.ack ? "ack" : "release" });
}

async function writeOut(bytes: Uint8Array): Promise<void> {
  // A terminal gets its line end; a pipe gets the body and nothing else.
  const all = process.stdout.isTTY ? Buffer.concat([bytes, Buffer.from("\n")]) : bytes;
  await new Promise<void>((resolve, reject) => {
    process.stdout.write(all, (error) => (error ? reject(error) : resolve()));
  });
}

export async function resolve(id: string, flags: NodeFlags & { readonly timeoutMs?: number }): Promise<void> {
  await using client = await connectTo(flags);
  const { timeoutMs } = flags;
  console.log((await client.call("queue.resolve", { id, timeoutMs })).resolution);
}
