/** Commands about queues. */
import { NodeError } from "../errors.ts";
import { table } from "../format.ts";
import type { QueueArgs, QueueStatus } from "../protocol.ts";
import { connectTo, printJson } from "./node.ts";
import type { NodeFlags } from "./node.ts";

/** Longest message, in bytes: no more is read from standard input. */
const BODY_BYTES_MAX: number = 1_024 * 1_024;

/** Options of the queue, where they differ from the defaults. */
export interface QueueFlags extends NodeFlags {
  readonly replicas?: number;
  readonly leaseMs?: number;
  readonly maxDeliveries?: number;
  readonly groups?: true;
  readonly dedupMs?: number;
  readonly shards?: number;
}

function argsOf(queue: string, flags: QueueFlags): QueueArgs {
  const { replicas, leaseMs, maxDeliveries, groups, dedupMs, shards } = flags;
  return { queue, replicas, leaseMs, maxDeliveries, groups, dedupMs, shards };
}

export async function declare(queue: string, flags: QueueFlags): Promise<void> {
  await using client = await connectTo(flags);
  console.log(queuesTable([await client.call("queue.declare", argsOf(queue, flags))]));
}

export async function list(flags: NodeFlags & { readonly json?: true }): Promise<void> {
  await using client = await connectTo(flags);
  const all = await client.call("queue.list", {});
  if (flags.json === true) printJson(all);
  else console.log(queuesTable(all));
}

function queuesTable(queues: readonly QueueStatus[]): string {
  return table(
    ["NAME", "REPLICAS", "LEASE MS", "MAX DELIVERIES", "DEPTH"],
    queues.map((queue) => [
      queue.name,
      String(queue.replicas),
      String(queue.leaseMs),
      String(queue.maxDeliveries),
      String(queue.depth),
    ]),
  );
}

export async function put(
  queue: string,
  text: string | undefined,
  flags: QueueFlags & { readonly group?: string; readonly dedupKey?: string; readonly timeoutMs?: number },
): Promise<void> {
  const body = text === undefined ? await readStdin() : Buffer.from(text);
  await using client = await connectTo(flags);
  const { timeoutMs, group, dedupKey } = flags;
  const args = { ...argsOf(queue, flags), body: body.toString("base64"), group, dedupKey, timeoutMs };
  const { id, duplicate } = await client.call("queue.put", args);
  console.log(id);
  if (duplicate) console.error("it was there already");
}

async function readStdin(): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > BODY_BYTES_MAX) {
      throw new NodeError("USAGE", `standard input: a message has at most ${BODY_BYTES_MAX} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

export async function take(
  queue: string,
  flags: QueueFlags & { readonly timeoutMs?: number; readonly ack: boolean },
): Promise<void> {
  await using client = await connectTo(flags);
  const { timeoutMs } = flags;
  const { hold, body } = await client.call("queue.take", { ...argsOf(queue, flags), timeoutMs });
  await writeOut(Buffer.from(body, "base64"));
  // Only now: a message that reached nobody must come again.
  await client.call("queue.settle", { hold, verdict: flags.ack ? "ack" : "release" });
}

async function writeOut(bytes: Buffer): Promise<void> {
  // A terminal gets its line end; a pipe gets the body and nothing else.
  const all = process.stdout.isTTY ? Buffer.concat([bytes, Buffer.from("\n")]) : bytes;
  await new Promise<void>((resolve, reject) => {
    process.stdout.once("error", reject);
    process.stdout.write(all, (error) => (error ? reject(error) : resolve()));
  });
}

export async function resolve(id: string, flags: NodeFlags & { readonly timeoutMs?: number }): Promise<void> {
  await using client = await connectTo(flags);
  const { timeoutMs } = flags;
  console.log((await client.call("queue.resolve", { id, timeoutMs })).resolution);
}
