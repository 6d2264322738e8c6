import { describe, expect, it } from "vitest";

import type { Acceptor } from "../../src/core/acceptor.ts";
import type { Context } from "../../src/core/context.ts";
import { DEFAULT_TUNING } from "../../src/core/context.ts";
import { Entry } from "../../src/core/entry.ts";
import type { EnqueueResult, PendingEnqueue } from "../../src/core/lane-register.ts";
import type { Members } from "../../src/core/members.ts";
import type { EnteredItem, Message } from "../../src/core/messages.ts";
import { PLAIN } from "../../src/core/register.ts";
import { Timers } from "../../src/core/timers.ts";
import type { Definition } from "../../src/core/types.ts";

const STORES = ["1", "2", "3"].map((digit) => digit.repeat(32));
const [FIRST = "", SECOND = "", THIRD = ""] = STORES;
const BODY = new Uint8Array(4_096);

const DEFINITION: Definition = {
  queue: "q".repeat(64),
  name: "jobs",
  replicas: 3,
  leaseMs: 30_000,
  maxDeliveries: 20,
  ordered: { shards: 1, dedupMs: 0, groups: true, stores: STORES.map((store) => ({ peer: store, store })) },
};

type Enter = Message & { readonly type: "enter" };

/** The entry node of one lane, whose links are as slow as you like. Its replicas' peers are named like their stores. */
class Node {
  readonly now = { monoMs: 0, wallMs: 0 };
  readonly sent: { readonly to: string; readonly message: Enter }[] = [];
  readonly results: EnqueueResult[] = [];
  readonly up = new Set(STORES);
  /** Members that are no replicas. */
  readonly others: string[] = [];
  /** Whom this node believes to write the lane. */
  writer = FIRST;
  readonly #timers = new Timers();
  readonly #entry: Entry<PendingEnqueue>;

  constructor() {
    const context = {
      now: this.now,
      pid: `${"9".repeat(32)}.1.${"0".repeat(16)}`,
      tuning: DEFAULT_TUNING,
      timers: this.#timers,
      laneIdOf: () => "lane",
      reachable: (store: string) => this.up.has(store),
      send: (to: string, message: Enter) => this.sent.push({ to, message }),
    } as unknown as Context;
    const members = {
      peerOf: (store: string) => store,
      isGreeted: (peer: string) => this.up.has(peer) || this.others.includes(peer),
      writers: () => [...this.up, ...this.others],
    } as unknown as Members;
    const newest = () => ({ promise: { round: 1, pid: `${this.writer}.1.0` } });
    const acceptor = { newest } as unknown as Acceptor;
    this.#entry = new Entry(context, members, acceptor, (_pending, result) => void this.results.push(result));
  }

  enqueue(count: number): PendingEnqueue | undefined {
    let last: PendingEnqueue | undefined;
    for (let no = 0; no < count; no += 1) {
      const content = { body: BODY, bodyHash: "", notBeforeWallMs: 0, enqueuedWallMs: 0, attributes: PLAIN };
      last = { requestId: no, deadlineMs: Infinity, ...content };
      this.#entry.add(DEFINITION, last);
    }
    this.#entry.flush();
    return last;
  }

  expire(pending: PendingEnqueue | undefined): EnqueueResult | undefined {
    return pending === undefined ? undefined : this.#entry.expire(pending);
  }

  /** A link to somebody new. */
  meet(): void {
    this.#entry.linkUp();
    this.#entry.flush();
  }

  wait(ms: number): void {
    for (const endMs = this.now.monoMs + ms; this.now.monoMs < endMs; this.now.monoMs += 10) {
      this.#timers.fire(this.now.monoMs);
      this.#entry.flush();
    }
  }

  /** Takes what was sent to `peer`: how many items, and their tokens. */
  taken(peer: string): readonly string[] {
    const own = this.sent.filter(({ to }) => to === peer);
    for (const one of own) this.sent.splice(this.sent.indexOf(one), 1);
    return own.flatMap(({ message }) => message.items.map(({ value }) => value.attributes?.token ?? ""));
  }

  answer(peer: string, tokens: readonly string[], code: EnteredItem["code"], hint?: string): void {
    const items = tokens.map((token, seq) => ({ token, code, seq }));
    this.#entry.entered(peer, { type: "entered", lane: "lane", items, hint });
    this.#entry.flush();
  }

  cut(peer: string): void {
    this.up.delete(peer);
    this.#entry.linkDown(peer);
    this.#entry.flush();
  }
}

describe("what waits to enter a lane", () => {
  it("goes to its writer once, however long the answer takes, and one item now and then looks for another", () => {
    const node = new Node();
    node.enqueue(512);
    const tokens = node.taken(FIRST);
    expect(tokens).toHaveLength(512);
    node.wait(9_000);
    expect(node.taken(FIRST)).toEqual([]);
    expect([...node.taken(SECOND), ...node.taken(THIRD)].length).toBeLessThanOrEqual(4);
    node.answer(FIRST, tokens, "OK");
    expect(node.results).toHaveLength(512);
  });

  it("goes to whoever took the lane over, though the writer before it answers nothing and its link stands", () => {
    const node = new Node();
    node.enqueue(100);
    node.answer(FIRST, node.taken(FIRST), "PENDING");
    node.writer = SECOND;
    let found: readonly string[] = [];
    for (let waited = 0; waited < 5_000 && found.length === 0; waited += 100) {
      node.wait(100);
      found = node.taken(SECOND);
      node.answer(THIRD, node.taken(THIRD), "ELSEWHERE", SECOND);
    }
    expect(found).toHaveLength(1);
    node.answer(SECOND, found, "PENDING");
    expect([...found, ...node.taken(SECOND)].length).toBeGreaterThanOrEqual(100);
  });

  it("is not put off by what comes meanwhile", () => {
    const node = new Node();
    for (let no = 0; no < 40; no += 1) {
      node.enqueue(1);
      node.wait(100);
    }
    expect([...node.taken(SECOND), ...node.taken(THIRD)].length).toBeGreaterThan(0);
  });

  it("is asked anew, all of it, when the link of whom it went to ends", () => {
    const node = new Node();
    node.enqueue(100);
    node.taken(FIRST);
    node.cut(FIRST);
    node.wait(3_000);
    expect(new Set([...node.taken(SECOND), ...node.taken(THIRD)]).size).toBe(100);
  });

  it("is asked again alone, where only some of it is to be", () => {
    const node = new Node();
    node.enqueue(100);
    const [refused = "", ...others] = node.taken(FIRST);
    node.answer(FIRST, [refused], "ELSEWHERE", FIRST);
    node.wait(500);
    const again = STORES.flatMap((store) => node.taken(store));
    expect(again.every((token) => token === refused)).toBe(true);
    expect(again.length).toBeGreaterThan(0);
    node.answer(FIRST, others, "OK");
    expect(node.results).toHaveLength(99);
  });

  it("is looked after although nothing else is to be sent when somebody comes", () => {
    const node = new Node();
    node.enqueue(10);
    node.answer(FIRST, node.taken(FIRST), "PENDING");
    const late = node.enqueue(1);
    node.answer(FIRST, node.taken(FIRST), "ELSEWHERE");
    node.expire(late);
    node.meet();
    node.wait(10_000);
    expect([...node.taken(SECOND), ...node.taken(THIRD)].length).toBeGreaterThan(0);
  });

  it("is asked again, and known to be nowhere, when members that are no replicas say late that it is not there", () => {
    const node = new Node();
    const [one, other] = ["one", "other"];
    node.up.clear();
    node.others.push(one, other);
    const pending = node.enqueue(1);
    const first = node.sent[0]?.to ?? "";
    const tokens = node.taken(first);
    expect(tokens).toHaveLength(1);
    node.wait(3_000);
    const looked = first === one ? other : one;
    const looks = node.taken(looked);
    expect(looks.length).toBeGreaterThan(0);
    for (const token of looks) node.answer(looked, [token], "ELSEWHERE");
    node.answer(first, tokens, "ELSEWHERE");
    expect(node.expire(pending)?.code).toBe("QUORUM_UNAVAILABLE");
  });
});
