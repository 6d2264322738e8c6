import type { QueueId, Value } from "./types.ts";

/**
 * Name of the view of a queue's dead messages: the queue's own with each digit turned over. It has no definition
 * and no lanes; rosters and credit speak of it like of a queue, so that its consumers need no messages of their own.
 */
export function deadViewOf(queue: QueueId): QueueId {
  let view = "";
  for (const digit of queue) view += (15 - Number.parseInt(digit, 16)).toString(16);
  return view;
}

/** Whose consumers may be handed the message: flow 11's claimable DEAD, and what is leased from there, keep a reason. */
export function isInDeadView({ reason, state }: Value): boolean {
  return reason !== undefined && state !== "DONE";
}
