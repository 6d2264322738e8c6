import type {
  Attributes,
  Definition,
  Descriptor,
  EndValue,
  Failure,
  Holder,
  Keys,
  Ranges,
  Value,
} from "./types.ts";

/** Why a message is dead when no consumer said so. */
const EXPIRED = "expired";
const MAX_DELIVERIES = "maxDeliveries";
/** Why a message is done that was dead for as long as its queue keeps such. */
const RETIRED = "retired";
const OWN_REASONS: readonly string[] = [EXPIRED, MAX_DELIVERIES, RETIRED];
/** Failed deliveries kept in a message's history. */
export const FAILURES_MAX = 8;
/** Characters of a failure's reason at most. */
export const FAILURE_REASON_MAX = 200;

/** Of a message that has none. */
export const PLAIN: Attributes = {
  priority: 0,
  headerBytes: 0,
  expiresAtWallMs: 0,
  group: undefined,
  dedupKey: undefined,
  token: undefined,
  failures: [],
  redrives: 0,
  forgiven: 0,
};

const NO_BODY = new Uint8Array();
/** 32 bytes that no body has for its hash. */
const NO_HASH = "\0".repeat(32);

/** The transitions of a message's register. Each is a compare-and-set of its lane's writer. */

/** What a message is made of. */
export interface Enqueued {
  readonly body: Uint8Array;
  readonly bodyHash: string;
  /** 0 for at once. */
  readonly notBeforeWallMs: number;
  readonly enqueuedWallMs: number;
  readonly attributes: Attributes | undefined;
}

export function enqueued(message: Enqueued, leaseMs: number): Value {
  const { body, bodyHash, notBeforeWallMs, enqueuedWallMs, attributes } = message;
  return {
    state: "READY",
    epoch: 0,
    holder: undefined,
    leaseMs,
    deliveries: 0,
    acquired: 0,
    notBeforeWallMs,
    bodyHash,
    bodyBytes: body.length,
    reason: undefined,
    enqueuedWallMs,
    attributes,
    encoded: undefined,
  };
}

/** Flow 2: the next epoch goes to `holder`. */
export function leased(value: Value, holder: Holder, leaseMs: number): Value {
  return {
    ...value,
    encoded: undefined,
    state: "LEASED",
    epoch: value.epoch + 1,
    holder,
    leaseMs,
  };
}

/** Flow 2: a lease that was not chosen in time. It keeps the epoch: none is ever proposed for two holders [M17]. */
export function superseded(value: Value, dueWallMs?: number): Value {
  const { notBeforeWallMs } = value;
  const due = dueWallMs === undefined ? notBeforeWallMs : Math.ceil(dueWallMs);
  return { ...value, encoded: undefined, state: unheld(value), holder: undefined, notBeforeWallMs: due };
}

/** Flow 11: what was leased as dead is dead again; only redrive clears the reason. */
function unheld({ reason }: Value): "READY" | "DEAD" {
  return reason === undefined ? "READY" : "DEAD";
}

/** Flow 14: of a finished message what its key needs, for an heir that never had it. */
export function remembered({ token, group, dedupKey, atWallMs }: Keys): Value {
  const attributes = { ...PLAIN, token, group, dedupKey };
  const message = {
    body: NO_BODY,
    bodyHash: NO_HASH,
    notBeforeWallMs: 0,
    enqueuedWallMs: atWallMs,
    attributes,
  };
  return done(enqueued(message, 0));
}

/** Flow 3. */
export function done(value: Value): Value {
  return { ...value, encoded: undefined, state: "DONE", holder: undefined };
}

/** Flows 4 and 5: a delivery that failed; at the limit the message is dead. */
export function failed(
  value: Value,
  definition: Definition,
  failure: Pick<Failure, "atWallMs" | "reason">,
  notBeforeWallMs: number,
): Value {
  const { attributes = PLAIN } = value;
  const next = { ...value, encoded: undefined, holder: undefined, attributes: withFailure(value, failure) };
  if (value.reason !== undefined) return { ...next, state: "DEAD", notBeforeWallMs };
  const deliveries = value.deliveries + 1;
  const isDead = deliveries - attributes.forgiven >= definition.maxDeliveries;
  if (isDead) return { ...next, state: "DEAD", deliveries, notBeforeWallMs: 0, reason: MAX_DELIVERIES };
  return { ...next, state: "READY", deliveries, notBeforeWallMs };
}

/** The newest failures of the message, and this one of its holder. */
function withFailure(value: Value, failure: Pick<Failure, "atWallMs" | "reason">): Attributes {
  const { epoch, holder, attributes = PLAIN } = value;
  const known = attributes.failures.slice(1 - FAILURES_MAX);
  return { ...attributes, failures: [...known, { epoch, peer: holder?.peer ?? "", ...failure }] };
}

/** Failed deliveries that count towards the limit. */
export function failedCount({ deliveries, attributes }: Value): number {
  return deliveries - (attributes?.forgiven ?? 0);
}

/** Flow 4: given back unused, not counted as a delivery. */
export function released(value: Value): Value {
  return {
    ...value,
    encoded: undefined,
    state: unheld(value),
    holder: undefined,
    acquired: value.acquired + 1,
  };
}

/** Flow 11: back into its queue, with all its deliveries before it and no end to its time. */
export function redriven(value: Value): Value {
  const { attributes = PLAIN, deliveries } = value;
  const { redrives } = attributes;
  const renewed = { ...attributes, expiresAtWallMs: 0, redrives: redrives + 1, forgiven: deliveries };
  return {
    ...value,
    encoded: undefined,
    state: "READY",
    holder: undefined,
    notBeforeWallMs: 0,
    reason: undefined,
    attributes: renewed,
  };
}

/** Done without anybody's acknowledgement, which hears STALE: its epoch is passed. */
export function discarded(value: Value): Value {
  return { ...value, encoded: undefined, state: "DONE", epoch: value.epoch + 1, holder: undefined };
}

/** Flow 4. The reasons that are the queue's own stay its own: acceptors go by them (A7). */
export function rejected(value: Value, text: string, failure: Pick<Failure, "atWallMs" | "reason">): Value {
  const reason = OWN_REASONS.includes(text) ? `rejected: ${text}` : text;
  return dead(value, reason, withFailure(value, failure));
}

/** Flow 12: its time ran out while nobody held it. */
function expired(value: Value): Value {
  return dead(value, EXPIRED, value.attributes);
}

function dead(value: Value, reason: string, attributes: Attributes | undefined): Value {
  return {
    ...value,
    encoded: undefined,
    state: "DEAD",
    holder: undefined,
    notBeforeWallMs: 0,
    reason,
    attributes,
  };
}

/** Flow 11: it was dead for as long as its queue keeps such. */
function retired(value: Value, notBeforeWallMs: number): Value {
  return { ...discarded(value), reason: RETIRED, notBeforeWallMs };
}

/** When it died; of one that failed once more since, when that was. */
function diedAtWallMs({ reason, enqueuedWallMs, attributes }: Value): number {
  const expiredWallMs = reason === EXPIRED ? (attributes?.expiresAtWallMs ?? 0) : 0;
  return Math.max(expiredWallMs, attributes?.failures.at(-1)?.atWallMs ?? enqueuedWallMs);
}

/** When a message that nobody holds is over, by the wall clock, if ever: what waits expires, what is dead is retired. */
export function endsAtWallMs(value: Value, deadTtlMs: number = Number.POSITIVE_INFINITY): number {
  if (value.state !== "READY") return diedAtWallMs(value) + deadTtlMs;
  return value.attributes?.expiresAtWallMs || Number.POSITIVE_INFINITY; // 0 is never.
}

/** It is `endsWallMs`, and nobody holds it. */
export function ended(value: Value, endsWallMs: number): Value {
  return value.state === "READY" ? expired(value) : retired(value, endsWallMs);
}

/** The instant before which nobody may be in this state (A7), by the wall clock; 0 for none. */
export function earliestWallMs({ state, notBeforeWallMs, reason, attributes }: Value): number {
  if (state === "LEASED" || (state === "DONE" && reason === RETIRED)) return notBeforeWallMs;
  return state === "DEAD" && reason === EXPIRED ? (attributes?.expiresAtWallMs ?? 0) : 0;
}

export function sameValue(a: Value, b: Value): boolean {
  return (
    a === b ||
    (a.state === b.state &&
      a.epoch === b.epoch &&
      a.holder?.peer === b.holder?.peer &&
      a.holder?.session === b.holder?.session &&
      a.leaseMs === b.leaseMs &&
      a.deliveries === b.deliveries &&
      a.acquired === b.acquired &&
      a.notBeforeWallMs === b.notBeforeWallMs &&
      a.bodyHash === b.bodyHash &&
      a.bodyBytes === b.bodyBytes &&
      a.reason === b.reason &&
      a.enqueuedWallMs === b.enqueuedWallMs &&
      sameAttributes(a.attributes, b.attributes))
  );
}

function sameAttributes(a: Attributes | undefined, b: Attributes | undefined): boolean {
  if (a === b) return true;
  if (a === undefined || b === undefined) return false;
  return (
    a.priority === b.priority &&
    a.headerBytes === b.headerBytes &&
    a.expiresAtWallMs === b.expiresAtWallMs &&
    a.group === b.group &&
    a.dedupKey === b.dedupKey &&
    a.token === b.token &&
    a.redrives === b.redrives &&
    a.forgiven === b.forgiven &&
    a.failures.length === b.failures.length &&
    a.failures.every((one, at) => {
      const other = b.failures[at];
      return (
        one.epoch === other?.epoch &&
        one.atWallMs === other.atWallMs &&
        one.peer === other.peer &&
        one.reason === other.reason
      );
    })
  );
}

export function sameEnd(a: EndValue, b: EndValue): boolean {
  return (
    a.n === b.n &&
    a.base === b.base &&
    a.frozenBy?.round === b.frozenBy?.round &&
    a.frozenBy?.pid === b.frozenBy?.pid &&
    a.closed === b.closed &&
    sameHeir(a.heir, b.heir) &&
    a.voids.length === b.voids.length &&
    a.voids.every(([from, to], i) => b.voids[i]?.[0] === from && b.voids[i]?.[1] === to)
  );
}

/** A proposer id and its number name one lane, for ever. */
export function sameHeir(a: Descriptor | undefined, b: Descriptor | undefined): boolean {
  return a?.originPid === b?.originPid && a?.laneNo === b?.laneNo;
}

/** Of ascending ranges. */
export function isIn(ranges: Ranges, seq: number): boolean {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ranges[middle]?.[1] ?? 0) <= seq) low = middle + 1;
    else high = middle;
  }
  const found = ranges[low];
  return found !== undefined && found[0] <= seq;
}

/** Whether `seq` never existed, given a chosen END. */
export function isVoid(end: EndValue, seq: number): boolean {
  return seq >= end.n || isIn(end.voids, seq);
}

/** Whether it waits for a consumer and for nothing else, whatever the time. */
export function isPlain({ state, notBeforeWallMs, reason, attributes }: Value): boolean {
  if (state !== "READY" || notBeforeWallMs !== 0 || reason !== undefined) return false;
  return attributes === undefined || hasHeadersAlone(attributes);
}

function hasHeadersAlone(attributes: Attributes): boolean {
  const { headerBytes } = attributes;
  return headerBytes > 0 && sameAttributes(attributes, headed(headerBytes));
}

/** Of a message that has headers and nothing else. Many messages have the same number of bytes of them: one object each. */
export function headed(headerBytes: number): Attributes | undefined {
  if (headerBytes === 0) return undefined;
  let known = HEADED[headerBytes];
  if (known === undefined) HEADED[headerBytes] = known = { ...PLAIN, headerBytes };
  return known;
}

/** By number of bytes, 16 KiB at most. */
const HEADED: (Attributes | undefined)[] = [];
