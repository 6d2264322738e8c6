import { messageId } from "../core/message-id.ts";
import type { EnqueueResult } from "../core/origin.ts";
import type { Definition } from "../core/types.ts";
import { QueueError } from "../errors.ts";
import type { QueueOptions } from "../options.ts";

/** How a queue differs from what somebody wants of it; `undefined` if it does not. */
export function differenceOf(known: Definition, options: QueueOptions): string | undefined {
  for (const field of [
    "replicas",
    "leaseMs",
    "maxDeliveries",
    "retry",
    "exclusive",
    "maxLength",
    "maxBytes",
  ] as const) {
    const here = JSON.stringify(field === "exclusive" ? known.exclusive === true : known[field]);
    const wanted = JSON.stringify(options[field]);
    if (here !== wanted) return `${field} ${here}, not ${wanted}`;
  }
  return undefined;
}

/** What an enqueue that failed tells its caller. */
export function enqueueError(result: Exclude<EnqueueResult, { code: "OK" }>): QueueError {
  switch (result.code) {
    case "QUORUM_UNAVAILABLE": {
      const text = `${result.have} replicas can be reached, ${result.need} are needed`;
      return new QueueError("QUORUM_UNAVAILABLE", text);
    }
    case "INDETERMINATE": {
      const id = result.lane === undefined ? undefined : messageId(result.lane, result.seq);
      const tells = id === undefined ? "the same dedupKey again finds it, if there is one" : `resolve("${id}") tells what became of the message`;
      const text = `no quorum answered in time; ${tells}`;
      return new QueueError("INDETERMINATE", text, { outcome: "unknown", id });
    }
    case "QUEUE_FULL":
      return new QueueError("QUEUE_FULL", `the queue is at its ${result.limit}`);
    case "OVERLOADED": {
      const { waiting, waitingBytes } = result;
      const text = `${waiting} enqueues of ${waitingBytes} bytes wait for a quorum already: await some of them first`;
      return new QueueError("OVERLOADED", text);
    }
  }
}
