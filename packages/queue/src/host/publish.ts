import { hash } from "node:crypto";

import { randomHex } from "@klatsch/kit/core";
import { systemRandom } from "@klatsch/kit";

import { QueueError } from "../errors.ts";
import { isUnknown } from "../publish-error.ts";
import type { Published, PublishOutcome, Resolution } from "../types.ts";

/** What publishing needs of the node. */
export interface PublishPort {
  enqueue(queue: string, publishId: string): Promise<{ readonly id: string }>;
  /** The queue knows an enqueue of this publish again by its key. */
  deduplicates(queue: string): boolean;
  resolve(id: string): Promise<Resolution>;
}

/**
 * Flow 16: a fan-out to k queues is k enqueues, confirmed when all are. What an earlier attempt confirmed is not
 * sent again, and what it left open is resolved first, or known again by its key: a retry never doubles a message that
 * exists.
 */
export async function publishTo(
  port: PublishPort,
  queues: readonly string[],
  earlier: Published | undefined,
): Promise<Published> {
  const before = new Map(earlier?.outcomes.map((outcome) => [outcome.queue, outcome]));
  const names = [...new Set([...before.keys(), ...queues])];
  const publishId = earlier?.publishId ?? randomHex(systemRandom, 32);
  const outcomes = await Promise.all(
    names.map((queue) => publishOne(port, queue, publishId, before.get(queue))),
  );
  return { publishId, outcomes };
}

/** The deduplication key of what one publish enqueues in one queue. */
export function publishKey(publishId: string, queue: string): string {
  return hash("sha256", `${publishId}\0${queue}`, "hex");
}

async function publishOne(
  port: PublishPort,
  queue: string,
  publishId: string,
  before: PublishOutcome | undefined,
): Promise<PublishOutcome> {
  if (before !== undefined && before.error === undefined) return before;
  try {
    if (before !== undefined && isUnknown(before) && !port.deduplicates(queue)) {
      if (before.id === undefined) return before;
      const found = await port.resolve(before.id);
      if (found === "ACKED") return { queue, id: before.id };
      // Sent again only if it is certain that there is nothing: better asked once more than doubled.
      if (found !== "NEVER") return before;
    }
    const { id } = await port.enqueue(queue, publishId);
    return { queue, id };
  } catch (error) {
    if (!(error instanceof QueueError)) throw error;
    const failed = { queue, id: error.id, error };
    // That nothing was enqueued now does not say what became of the first attempt.
    return before !== undefined && isUnknown(before) && !isUnknown(failed) ? before : failed;
  }
}
