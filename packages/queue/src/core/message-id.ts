import type { LaneId } from "./types.ts";

/** Names a message to people and in answers. */
export function messageId(lane: LaneId, seq: number): string {
  return `${lane}-${seq}`;
}

/** The parts of a message id, `undefined` if it is none. */
export function parseMessageId(id: string): { lane: LaneId; seq: number } | undefined {
  const match = /^([0-9a-f]{64})-(0|[1-9][0-9]{0,9})$/.exec(id);
  return match?.[1] === undefined ? undefined : { lane: match[1], seq: Number(match[2]) };
}
