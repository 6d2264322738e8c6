import type { Definition, EndValue, Holder, Value } from "./types.ts";

/** The transitions of a message's register. Each is a compare-and-set of its lane's writer. */

export function enqueued(bodyHash: string, bodyBytes: number, leaseMs: number): Value {
  return {
    state: "READY",
    epoch: 0,
    holder: undefined,
    leaseMs,
    deliveries: 0,
    acquired: 0,
    notBeforeWallMs: 0,
    bodyHash,
    bodyBytes,
    reason: undefined,
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
    notBeforeWallMs: 0,
  };
}

/** Flow 2: a lease that was not chosen in time. It keeps the epoch: none is ever proposed for two holders [M17]. */
export function superseded(value: Value): Value {
  return { ...value, encoded: undefined, state: "READY", holder: undefined };
}

/** Flow 3. */
export function done(value: Value): Value {
  return { ...value, encoded: undefined, state: "DONE", holder: undefined };
}

/** Flows 4 and 5: a delivery that failed; at the limit the message is dead. */
export function failed(value: Value, definition: Definition, notBeforeWallMs: number): Value {
  const deliveries = value.deliveries + 1;
  if (deliveries >= definition.maxDeliveries) {
    return {
      ...value,
      encoded: undefined,
      state: "DEAD",
      holder: undefined,
      deliveries,
      reason: "maxDeliveries",
    };
  }
  return { ...value, encoded: undefined, state: "READY", holder: undefined, deliveries, notBeforeWallMs };
}

/** Flow 4: given back unused, not counted as a delivery. */
export function released(value: Value): Value {
  return { ...value, encoded: undefined, state: "READY", holder: undefined, acquired: value.acquired + 1 };
}

/** Flow 4. */
export function rejected(value: Value, reason: string): Value {
  return { ...value, encoded: undefined, state: "DEAD", holder: undefined, reason };
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
      a.reason === b.reason)
  );
}

export function sameEnd(a: EndValue, b: EndValue): boolean {
  return (
    a.n === b.n &&
    a.closed === b.closed &&
    a.voids.length === b.voids.length &&
    a.voids.every(([from, to], i) => b.voids[i]?.[0] === from && b.voids[i]?.[1] === to)
  );
}

/** Whether `seq` never existed, given a chosen END. */
export function isVoid(end: EndValue, seq: number): boolean {
  return seq >= end.n || end.voids.some(([from, to]) => from <= seq && seq < to);
}
