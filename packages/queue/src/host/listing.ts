import { messageId, parseMessageId } from "../core/message-id.ts";
import type { Place, QueueId } from "../core/types.ts";
import { refuse } from "../options.ts";

/** Digits of a queue in the name of a place: lanes of another one, or of the next of its name, have nothing to do with it. */
const QUEUE_DIGITS = 16;

/** What a caller is told to ask for next. */
export function nextOf(queue: QueueId, place: Place): string {
  return `${queue.slice(0, QUEUE_DIGITS)}.${messageId(place.lane, place.seq)}`;
}

/** @throws QueueError `INVALID_OPTIONS`. */
export function placeOf(queue: QueueId, next: string): Place {
  const place = next[QUEUE_DIGITS] === "." ? parseMessageId(next.slice(QUEUE_DIGITS + 1)) : undefined;
  if (place === undefined) refuse("options.after", "is not the `next` of a page");
  if (!next.startsWith(queue.slice(0, QUEUE_DIGITS)))
    refuse("options.after", "is of another queue, or an earlier one of this name");
  return place;
}
