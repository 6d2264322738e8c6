/** What a node does for those who look after queues: see, count, put back, do away with, halt. */
import type { PeekedMessage, QueueChanges, Queues } from "@klatsch/queue";
import { NodeError } from "./errors.ts";
import type { Fields } from "./fields.ts";
import type { Operations } from "./operation-types.ts";
import { STATES, WAIT_MS_MAX } from "./protocol.ts";
import type { QueueStatus, TendingOperation } from "./protocol.ts";

const BROWSE_FIELDS = ["queue", "state", "limit", "after", "timeoutMs"] as const;
const LIMIT_MAX = 1_000;
/** Bodies of one answer, together: it has to fit one line. */
const PEEK_BYTES_MAX: number = 1_024 * 1_024;

function browseOptions(args: Fields): NonNullable<Parameters<ReturnType<Queues["open"]>["browse"]>[0]> {
  const state = args.text("state") === undefined ? undefined : args.oneOf("state", STATES);
  const limit = args.wholeNumber("limit", 1, LIMIT_MAX);
  return {
    state,
    limit,
    after: args.text("after"),
    timeoutMs: args.wholeNumber("timeoutMs", 1, WAIT_MS_MAX),
  };
}

/** The queues that are known here, as they are now. */
export function statuses(queues: Queues): readonly QueueStatus[] {
  return queues.list().map((one) => ({ ...one, depth: queues.open(one.name).depth }));
}

export function statusOf(queues: Queues, name: string): QueueStatus {
  const found = statuses(queues).find((one) => one.name === name);
  if (found === undefined) throw new NodeError("BAD_REQUEST", `queue ${name} was deleted meanwhile`);
  return found;
}

export function tendingOperations(queues: Queues): Pick<Operations, TendingOperation> {
  const open = (args: Fields): ReturnType<Queues["open"]> => queues.open(args.requiredText("queue"));
  return {
    "queue.browse": async (args) => await open(args.only(...BROWSE_FIELDS)).browse(browseOptions(args)),
    "queue.peek": async (args) => {
      const messages = await open(args.only(...BROWSE_FIELDS)).peek(browseOptions(args));
      return messages.map(asJson(PEEK_BYTES_MAX));
    },
    "queue.counts": async (args) => await open(args.only("queue")).counts(),
    "queue.groups": async (args) => await open(args.only("queue")).groups(),
    "queue.consumers": async (args) => await queues.consumers(args.only("queue").requiredText("queue")),
    "queue.inspect": async (args) => await queues.inspect(args.only("id").requiredText("id")),
    "queue.redrive": async (args) => {
      return await open(args.only("queue", "ids")).dead.redrive({ ids: args.texts("ids") });
    },
    "queue.purge": async (args) => {
      const queue = open(args.only("queue", "ids", "dead"));
      const ids = args.texts("ids");
      return args.flag("dead") ? await queue.dead.purge({ ids }) : await queue.purge({ ids });
    },
    "queue.alter": async (args) => {
      const queue = open(args.only("queue", "changes"));
      // What is none is refused by the queue itself.
      await queue.alter(args.json("changes") as QueueChanges);
      return statusOf(queues, queue.name);
    },
    "queue.delete": async (args) => await queues.delete(args.only("queue").requiredText("queue")),
    "queue.pause": async (args) => {
      const queue = open(args.only("queue", "paused"));
      if (args.flag("paused")) await queue.pause();
      else await queue.resume();
      return {};
    },
    "queue.drain": async (args) => {
      args.only("queue", "timeoutMs");
      await open(args).drain({ timeoutMs: args.wholeNumber("timeoutMs", 1, WAIT_MS_MAX) });
      return {};
    },
  };
}

function asJson(
  bytesMax: number,
): (message: PeekedMessage) => Omit<PeekedMessage, "body"> & { body: string } {
  let bytes = 0;
  return ({ body, ...message }) => {
    bytes += body.length;
    if (bytes > bytesMax) throw new NodeError("LIMIT_REACHED", "the bodies are too long: ask for fewer");
    return { ...message, body: Buffer.from(body).toString("base64") };
  };
}
