/** One thing clients saw of one message, with the times between which it took effect. */
export type Operation =
  /** The message came to be. `optional`: nobody knows whether. */
  | { readonly kind: "enqueue"; readonly from: number; readonly to: number; readonly optional: boolean }
  /** A consumer was handed it under this epoch: the lease was granted before `to`. */
  | { readonly kind: "grant"; readonly from: number; readonly to: number; readonly epoch: number }
  /** A verdict took effect; `optional`: perhaps. */
  | {
      readonly kind: "settle";
      readonly from: number;
      readonly to: number;
      readonly epoch: number;
      readonly into: "DONE" | "READY" | "DEAD" | "READY_OR_DEAD";
      readonly optional: boolean;
    }
  /** The answer STALE: at some instant the lease of this epoch was over, and not by this one's acknowledgement. */
  | { readonly kind: "stale"; readonly from: number; readonly to: number; readonly epoch: number }
  /** An operator did away with it; the epoch is one that nobody held. */
  | { readonly kind: "discard"; readonly from: number; readonly to: number; readonly epoch: number }
  /** The answer FINISHED: at some instant it was done. */
  | { readonly kind: "finished"; readonly from: number; readonly to: number };

interface State {
  readonly phase: "NONE" | "READY" | "LEASED" | "DONE" | "DEAD";
  readonly epoch: number;
}

/**
 * Whether one order of the operations, each within its times, is a life a message may have
 * (Wing and Gong 1993). Brute force: a message has few operations.
 */
export function isLinearizable(operations: readonly Operation[]): boolean {
  const seen = new Set<string>();
  const all = (1 << operations.length) - 1;
  const required = operations.reduce((bits, one, at) => (isOptional(one) ? bits : bits | (1 << at)), 0);
  const search = (done: number, state: State): boolean => {
    if ((done & required) === required) return true;
    const key = `${done} ${state.phase} ${state.epoch}`;
    if (seen.has(key)) return false;
    seen.add(key);
    let earliestTo = Number.POSITIVE_INFINITY;
    for (let at = 0; at < operations.length; at += 1) {
      const one = operations[at]!;
      if ((done & (1 << at)) === 0 && !isOptional(one)) earliestTo = Math.min(earliestTo, one.to);
    }
    for (let at = 0; at < operations.length; at += 1) {
      const one = operations[at]!;
      if ((done & (1 << at)) !== 0 || one.from > earliestTo) continue;
      for (const next of after(state, one)) if (search(done | (1 << at), next)) return true;
    }
    return false;
  };
  return all === 0 || search(0, { phase: "NONE", epoch: 0 });
}

function isOptional(operation: Operation): boolean {
  return "optional" in operation && operation.optional;
}

/** States that `one` may lead to. What nobody saw (expiry, leases that never arrived) happens in between. */
function after(state: State, one: Operation): readonly State[] {
  const { phase, epoch } = state;
  switch (one.kind) {
    case "enqueue":
      return phase === "NONE" ? [{ phase: "READY", epoch: 0 }] : [];
    case "grant":
      // The lease before may have expired, and others may have been granted and expired unseen.
      // And what is dead may be handed out as dead, or have been put back.
      if (phase === "NONE" || phase === "DONE") return [];
      return one.epoch > epoch ? [{ phase: "LEASED", epoch: one.epoch }] : [];
    case "settle":
      if (phase !== "LEASED" || epoch !== one.epoch) return [];
      if (one.into === "READY_OR_DEAD")
        return [
          { phase: "READY", epoch },
          { phase: "DEAD", epoch },
        ];
      return [{ phase: one.into, epoch }];
    case "stale":
      if (phase === "DONE") return epoch === one.epoch ? [] : [state];
      // A lease that stands may have expired just now.
      if (phase === "LEASED" && epoch === one.epoch)
        return [
          { phase: "READY", epoch },
          { phase: "DEAD", epoch },
        ];
      return epoch >= one.epoch ? [state] : [];
    case "discard":
      return phase === "NONE" || phase === "DONE" || epoch >= one.epoch
        ? []
        : [{ phase: "DONE", epoch: one.epoch }];
    case "finished":
      return phase === "DONE" ? [state] : [];
  }
}
