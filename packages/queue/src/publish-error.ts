import { QueueError } from "./errors.ts";
import type { Published, PublishOutcome } from "./types.ts";

/** Whether the message may be in the queue all the same. */
export function isUnknown({ id, error }: PublishOutcome): boolean {
  return error !== undefined && (id !== undefined || error.outcome === "unknown");
}

/** `PUBLISH_INCOMPLETE`: some queues did not confirm. Publishing again with `retry: error.published` is safe. */
export class PublishError extends QueueError {
  override readonly name: string = "PublishError";
  readonly published: Published;

  constructor(published: Published) {
    const open = published.outcomes.filter(({ error }) => error !== undefined);
    const text = `${open.length} of ${published.outcomes.length} queues did not confirm: publish again with retry`;
    const outcome = open.some(isUnknown) ? "unknown" : "none";
    super("PUBLISH_INCOMPLETE", text, { outcome, cause: open[0]?.error });
    this.published = published;
  }
}
