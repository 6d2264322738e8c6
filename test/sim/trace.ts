import type { Message } from "../../packages/queue/src/core/messages.ts";
import type { QueueEffect } from "../../packages/queue/src/core/inputs.ts";
import { say, short } from "./truth.ts";

/** A message in one line, for the trace of a failed run. */
export function describeMessage(message: Message): string {
  switch (message.type) {
    case "ops":
      return `ops ${message.no}: ${message.sections.map(describeSection).join("; ")}`;
    case "ok":
      return `ok ${message.no} ${message.exceptions.map((e) => `[${e.section}${"seq" in e ? `-${e.seq}` : ""} ${e.code}]`).join("")}`;
    case "prepare":
      return `prepare ${short(message.lane)} round ${message.round}`;
    case "page": {
      const registers = message.registers.map(
        ({ seq, ballot, value }) => `${seq}@${ballot.round}.${ballot.step} ${say(value)}`,
      );
      const end = message.end === undefined ? "" : ` END ${JSON.stringify(message.end.value)}`;
      const finished = JSON.stringify(message.finished);
      return `page ${message.index} of ${short(message.lane)} round ${message.round} snapshot ${message.snapshot}${message.last ? " last" : ""}: ${registers.join(", ")} finished ${finished}${end}`;
    }
    case "deliver":
      return `deliver ${message.items.map((i) => `${short(i.lane)}-${i.seq} e${i.epoch} ${i.session.slice(-3)}${i.body === undefined ? " NO BODY" : ""}`).join(", ")}`;
    case "verdicts":
      return `verdicts ${message.items.map((i) => `${short(i.lane)}-${i.seq} e${i.epoch} ${i.verdict.kind}`).join(", ")}`;
    case "settled":
      return `settled ${message.items.map((i) => `${short(i.lane)}-${i.seq} e${i.epoch} ${i.kind} ${i.code}${i.hint === undefined ? "" : `→${i.hint}`}`).join(", ")}`;
    case "held":
      return `held ${message.items.map((i) => `${short(i.lane)}-${i.seq} e${i.epoch}`).join(", ")}`;
    case "credit":
      return `credit ${message.items.map((i) => `${i.session.slice(-3)}=${i.total}${i.recall ? " recall" : ""}`).join(", ")}`;
    case "hello":
      return `hello boot ${message.boot} consumes ${message.consumes.length}`;
    default: {
      const { type, ...rest } = message as Message & { lane?: string };
      return `${type} ${JSON.stringify(rest, shorten)}`;
    }
  }
}

function describeSection(section: (Message & { type: "ops" })["sections"][number]): string {
  const { lane, round, pid, accepts, learned, end, closed, descriptor } = section;
  const parts = accepts.map(
    ({ seq, step, value, body }) => `${seq}@${step} ${say(value)}${body === undefined ? "" : "+body"}`,
  );
  if (learned.length > 0) parts.push(`learn ${JSON.stringify(learned)}`);
  if (end !== undefined) parts.push(`END@${end.step} ${JSON.stringify(end.value)}`);
  if (closed !== undefined) parts.push(`CLOSED ${JSON.stringify(closed)}`);
  return `${short(lane)}${descriptor === undefined ? "" : "+D"} (${round},${pid[0]}) ${parts.join(", ")}`;
}

export function describeEffect(effect: QueueEffect): string {
  if (effect.type === "deliver") {
    const { lane, seq, epoch, session } = effect.item;
    return `deliver ${short(lane)}-${seq} e${epoch} to ${session.slice(-3)}`;
  }
  return JSON.stringify(effect, shorten);
}

/** Long hexadecimal names are cut; bodies are left out. */
function shorten(key: string, value: unknown): unknown {
  if (key === "body" || key === "descriptor") return undefined;
  return typeof value === "string" && value.length > 16 ? value.slice(0, 6) : value;
}
