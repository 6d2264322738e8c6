import type { LaneId, Place } from "./types.ts";

/** No lane has a higher seq, and no peer takes one for any. */
export const SEQ_LAST = 0x7fff_ffff;

/** Names a message to people and in answers. */
export function messageId(lane: LaneId, seq: number): string {
  return `${lane}-${seq}`;
}

/** The parts of a message id, `undefined` if it is none. */
export function parseMessageId(id: string): Place | undefined {
  const match = /^([0-9a-f]{64})-(0|[1-9][0-9]{0,9})$/.exec(id);
  const [lane, seq] = [match?.[1], Number(match?.[2])];
  return lane === undefined || seq > SEQ_LAST ? undefined : { lane, seq };
}

/** The order in which messages are listed: it stays, whoever writes their lanes. */
export function comparePlaces(a: Place, b: Place): number {
  if (a.lane !== b.lane) return a.lane < b.lane ? -1 : 1;
  return a.seq - b.seq;
}
