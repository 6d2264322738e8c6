/**
 * The total-queue checker: what went in has to come out, nothing else may, and nobody may hold what another holds
 * under the same token. It looks at the history of a run whose queue was drained at the end.
 */
import type { Entry } from "./history.ts";

/** Rules; each names what must never be. */
export const RULES = {
  lost: "acknowledged to its producer and never handed out",
  vanished: "handed out, gone from the queue, and nobody ever tried to acknowledge it",
  unexpected: "handed out although nobody enqueued it",
  damaged: "handed out with another body",
  refusedYetDelivered: "handed out although its producer was told that nothing happened",
  twoIds: "one enqueue became several messages",
  twoOfKey: "two messages have one key",
  sameYetDelivered: "handed out although it was called a duplicate",
  outOfOrder: "handed out before one of its group that came first was through",
  reordered: "enqueued by one process into one group, and took another place",
  twoHolders: "handed out twice at one epoch",
  afterAck: "handed out after a confirmed acknowledgement",
  twoAcks: "acknowledged with confirmation at two epochs",
  twoLeaders: "one leader's token was given twice",
  miscounted: "still there when the queue was counted as empty",
  notDrained: "left in the queue after everything had healed",
} as const;

export type Rule = keyof typeof RULES;

/** A rule that was broken, by which message, and what is known of it. */
export interface Violation {
  readonly rule: Rule;
  readonly about: string;
  readonly detail: string;
}

/** What happened, counted. */
interface Totals {
  readonly tried: number;
  readonly acknowledged: number;
  /** Told that another has their key. */
  readonly duplicates: number;
  /** Told that nothing happened. */
  readonly refused: number;
  /** Told that it may have happened, or the process ended before it was told. */
  readonly unknown: number;
  /** Of these, how many were handed out. */
  readonly recovered: number;
  /** Messages handed out at least once. */
  readonly delivered: number;
  readonly deliveries: number;
  /** Messages handed out at more than one epoch. */
  readonly redelivered: number;
  readonly confirmed: number;
  readonly leaders: number;
  /** Longest time without a delivery, in milliseconds. */
  readonly longestPauseMs: number;
}

export interface Verdict {
  readonly totals: Totals;
  readonly violations: readonly Violation[];
}

interface Enqueue {
  outcome: "pending" | "ok" | "same" | "none" | "unknown";
  /** As it was acknowledged. */
  id: string | undefined;
  /** Under which it was handed out. */
  readonly ids: Set<string>;
  /** The process that made it. */
  readonly maker: string;
  readonly group: string | undefined;
  readonly dedupKey: string | undefined;
}

interface Delivered {
  readonly key: string;
  readonly atUs: number;
  readonly epochs: Map<number, string>;
  asked: boolean;
  /** When somebody first acknowledged or rejected it: the next of its group may follow. */
  throughUs: number;
  /** Epoch and time of the confirmed acknowledgement. */
  acked: { readonly epoch: number; readonly atUs: number } | undefined;
}

/** What a process that stood still had begun before is seen only after it: so long after, in microseconds. */
const WAKING_US = 3_000_000;

/** `left`: messages that were still there at the end, by state. */
export function check(entries: readonly Entry[], left: Readonly<Record<string, number>> = {}): Verdict {
  const checker = new Checker();
  for (const entry of entries) checker.take(entry);
  return checker.end(left);
}

/** A queue was counted as empty while the history said that `messages` were to come. */
export function miscounted(messages: readonly Violation[]): readonly Violation[] {
  return messages.map(({ about, detail }) => ({ rule: "miscounted", about, detail }));
}

class Checker {
  readonly #enqueues = new Map<string, Enqueue>();
  readonly #messages = new Map<string, Delivered>();
  readonly #leaders = new Map<string, string>();
  /** Ids that enqueues with a key were told. */
  readonly #ofKey = new Map<string, Set<string>>();
  readonly #violations: Violation[] = [];
  /** Nodes that stand still, and when others last went on. */
  readonly #wokenUs = new Map<string, number>();
  #deliveries = 0;
  #lastUs: number | undefined;
  #longestUs = 0;

  take(entry: Entry): void {
    switch (entry.what) {
      case "try":
        return this.#tried(entry);
      case "ok":
        return this.#told(entry.key, "ok", entry.id);
      case "same":
        return this.#told(entry.key, "same", entry.id);
      case "no":
        return this.#told(entry.key, entry.outcome === "none" ? "none" : "unknown");
      case "got":
        return this.#got(entry);
      case "act": {
        const message = this.#messages.get(entry.id);
        if (message === undefined) return;
        if (entry.act === "ack") message.asked = true;
        const isThrough = entry.act === "ack" || entry.act === "reject";
        if (isThrough) message.throughUs = Math.min(message.throughUs, entry.atUs);
        return;
      }
      case "done":
        return this.#done(entry);
      case "leads":
        return this.#leads(entry);
      case "stopped":
        this.#wokenUs.set(entry.node, Number.POSITIVE_INFINITY);
        return;
      case "continued":
        this.#wokenUs.set(entry.node, entry.atUs);
        return;
      case "note":
        return;
    }
  }

  #broken(rule: Rule, about: string, detail: string): void {
    this.#violations.push({ rule, about, detail });
  }

  #tried({ key, group, dedupKey, node }: Extract<Entry, { what: "try" }>): void {
    const [, run = ""] = key.split(".");
    const given = { maker: `${node}.${run}`, group, dedupKey };
    this.#enqueues.set(key, { outcome: "pending", id: undefined, ids: new Set(), ...given });
  }

  #told(key: string, outcome: Enqueue["outcome"], id?: string): void {
    const enqueue = this.#enqueues.get(key);
    if (enqueue === undefined) return;
    enqueue.outcome = outcome;
    if (outcome === "ok") enqueue.id = id;
    if (enqueue.dedupKey === undefined || id === undefined) return;
    const ids = this.#ofKey.get(enqueue.dedupKey);
    if (ids === undefined) this.#ofKey.set(enqueue.dedupKey, new Set([id]));
    else if (ids.add(id).size === 2) this.#broken("twoOfKey", enqueue.dedupKey, [...ids].join(" "));
  }

  #got(entry: Extract<Entry, { what: "got" }>): void {
    const { id, epoch, key, flaw, node, atUs } = entry;
    this.#deliveries += 1;
    if (this.#lastUs !== undefined) this.#longestUs = Math.max(this.#longestUs, atUs - this.#lastUs);
    this.#lastUs = atUs;
    if (flaw !== undefined) return this.#broken("damaged", id, `${flaw}, at ${node}, epoch ${epoch}`);
    const enqueue = this.#enqueues.get(key);
    if (enqueue === undefined) return this.#broken("unexpected", id, `${key}, at ${node}, epoch ${epoch}`);
    enqueue.ids.add(id);
    if (enqueue.ids.size === 2) this.#broken("twoIds", key, [...enqueue.ids].join(" "));
    let message = this.#messages.get(id);
    if (message === undefined) {
      message = { key, atUs, epochs: new Map(), asked: false, throughUs: Infinity, acked: undefined };
      this.#messages.set(id, message);
    }
    const other = message.epochs.get(epoch);
    if (other !== undefined) this.#broken("twoHolders", id, `epoch ${epoch}: ${other} and ${node}`);
    message.epochs.set(epoch, node);
    const { acked } = message;
    if (acked === undefined) return;
    // A lower epoch was handed out before; a process that stood still meanwhile wrote it down late.
    const woken = this.#wokenUs.get(node) ?? Number.NEGATIVE_INFINITY;
    if (epoch < acked.epoch && atUs - woken <= WAKING_US) return;
    this.#broken("afterAck", id, `acknowledged at epoch ${acked.epoch}, handed to ${node} at ${epoch}`);
  }

  #done({ id, epoch, act, atUs }: Extract<Entry, { what: "done" }>): void {
    const message = this.#messages.get(id);
    if (message === undefined || act !== "ack") return;
    const { acked } = message;
    if (acked !== undefined) this.#broken("twoAcks", id, `epochs ${acked.epoch} and ${epoch}`);
    message.acked = { epoch, atUs };
  }

  #leads({ token, node }: Extract<Entry, { what: "leads" }>): void {
    const other = this.#leaders.get(token);
    if (other !== undefined) this.#broken("twoLeaders", token, `${other} and ${node}`);
    this.#leaders.set(token, node);
  }

  end(left: Readonly<Record<string, number>>): Verdict {
    for (const [state, count] of Object.entries(left)) {
      if (count > 0) this.#broken("notDrained", state, `${count} messages`);
    }
    for (const [key, { outcome, ids }] of this.#enqueues) {
      if (outcome === "ok" && ids.size === 0) this.#broken("lost", key, "acknowledged");
      if (outcome === "same" && ids.size > 0) this.#broken("sameYetDelivered", key, [...ids].join(" "));
      if (outcome === "none" && ids.size > 0) this.#broken("refusedYetDelivered", key, [...ids].join(" "));
    }
    for (const [id, { key, asked, epochs }] of this.#messages) {
      if (!asked) this.#broken("vanished", id, `${key}, epochs ${[...epochs.keys()].join(" ")}`);
    }
    this.#checkOrder();
    return { totals: this.#totals(), violations: this.#violations };
  }

  /** Groups go by the seqs in their ids; whoever is through need not be acknowledged for good. */
  #checkOrder(): void {
    const delivered = [...this.#messages].map(([id, message]) => ({ id, message }));
    const groups = Map.groupBy(delivered, ({ message }) => this.#enqueues.get(message.key)?.group);
    groups.delete(undefined);
    for (const list of groups.values()) {
      let before: { readonly id: string; readonly message: Delivered } | undefined;
      for (const one of list.toSorted((a, b) => seqOf(a.id) - seqOf(b.id))) {
        if (before !== undefined && one.message.atUs < before.message.throughUs) {
          this.#broken("outOfOrder", one.id, `${before.id} was not through, ${one.message.key}`);
        }
        if (before === undefined || one.message.throughUs > before.message.throughUs) before = one;
      }
    }
    // They are in the order of the tries, which is that of the calls.
    const lasts = new Map<string, number>();
    for (const [key, { id, maker, group }] of this.#enqueues) {
      if (group === undefined || id === undefined) continue;
      const side = `${maker} ${group}`;
      const last = lasts.get(side) ?? -1;
      const seq = seqOf(id);
      if (seq < last) this.#broken("reordered", key, `${side}: ${seq} after ${last}`);
      lasts.set(side, Math.max(last, seq));
    }
  }

  #totals(): Totals {
    const enqueues = [...this.#enqueues.values()];
    const messages = [...this.#messages.values()];
    const count = (is: (enqueue: Enqueue) => boolean): number => enqueues.filter(is).length;
    const isUnknown = ({ outcome }: Enqueue): boolean => outcome === "unknown" || outcome === "pending";
    return {
      tried: enqueues.length,
      acknowledged: count(({ outcome }) => outcome === "ok"),
      duplicates: count(({ outcome }) => outcome === "same"),
      refused: count(({ outcome }) => outcome === "none"),
      unknown: count(isUnknown),
      recovered: count((enqueue) => isUnknown(enqueue) && enqueue.ids.size > 0),
      delivered: messages.length,
      deliveries: this.#deliveries,
      redelivered: messages.filter(({ epochs }) => epochs.size > 1).length,
      confirmed: messages.filter(({ acked }) => acked !== undefined).length,
      leaders: this.#leaders.size,
      longestPauseMs: Math.round(this.#longestUs / 1_000),
    };
  }
}

/** Of a message id. */
function seqOf(id: string): number {
  return Number(id.slice(id.lastIndexOf("-") + 1));
}
