import { SeededRandom } from "@klatsch/kit/core";
import { describe, expect, it } from "vitest";

import type { Acceptor, AcceptorLane } from "../../src/core/acceptor.ts";
import type { Context } from "../../src/core/context.ts";
import { BodyBudget, DEFAULT_TUNING } from "../../src/core/context.ts";
import { Lanes } from "../../src/core/lanes.ts";
import type { LanesHost } from "../../src/core/lanes.ts";
import { enqueued, leased } from "../../src/core/register.ts";
import { RegisterTable } from "../../src/core/register-table.ts";
import type { ReplicaLink } from "../../src/core/replica-link.ts";
import type { Recovery } from "../../src/core/steal.ts";
import { Timers } from "../../src/core/timers.ts";

const STORES = ["1", "2", "3"].map((digit) => digit.repeat(32));
const [OWN = "", SECOND = "", THIRD = ""] = STORES;

/** Does nothing but what is given. */
function nobody<Port extends object>(given: Partial<Port>): Port {
  return new Proxy(given, { get: (known, name) => Reflect.get(known, name) ?? (() => undefined) }) as Port;
}

/** A lane that was taken over with one lease, whose body both others have and this node has not: it is fetched. */
class Fetching {
  readonly now = { monoMs: 0, wallMs: 0 };
  readonly asked: string[] = [];
  readonly up = new Set(STORES);
  readonly lanes: Lanes;
  readonly #timers = new Timers();

  constructor() {
    const context = nobody<Context>({
      peer: OWN,
      store: OWN,
      now: this.now,
      awakeMs: 0,
      random: new SeededRandom(1),
      tuning: DEFAULT_TUNING,
      timers: this.#timers,
      bodies: new BodyBudget(0),
      reachable: (store) => this.up.has(store),
      send: (to, { type }) => {
        if (type === "getBody") this.asked.push(to);
      },
    });
    const registers = new RegisterTable(0);
    const link = nobody<ReplicaLink>({ isUp: true, hasRoom: true, takesLight: true });
    const host = nobody<LanesHost>({
      link: () => link,
      usage: () => ({ count: 0, bytes: 0 }),
      consumersOf: () => [],
      isGreeted: () => true,
      isOut: () => false,
    });
    this.lanes = new Lanes(context, nobody<Acceptor>({ lane: () => lane, newest: () => lane }), host);
    const descriptor = {
      queue: "q",
      originPid: `${SECOND}.1.0`,
      laneNo: 0,
      replicas: STORES.map((store) => ({ peer: store, store })),
      voters: 0,
      consumersSeen: 0,
      wanted: 3,
    };
    const lane = { lane: "lane", descriptor, registers } as unknown as AcceptorLane;
    const ready = enqueued(
      { body: new Uint8Array(9), bodyHash: "", notBeforeWallMs: 0, enqueuedWallMs: 0, attributes: undefined },
      30_000,
    );
    const value = leased(ready, { peer: THIRD, session: "5".repeat(16) }, 30_000);
    const recovery: Recovery = {
      right: { round: 2, pid: `${OWN}.1.0` },
      parentOver: false,
      found: [{ seq: 0, value, heldBy: 0b110, proven: false }],
      whole: { registers: new RegisterTable(0), pages: [], heldBy: 0 },
      finished: [],
      nextSeq: 1,
      end: undefined,
      keys: [],
    };
    this.lanes.steal(lane, recovery);
  }

  wait(ms: number): void {
    for (const endMs = this.now.monoMs + ms; this.now.monoMs < endMs; this.now.monoMs += 10) {
      this.#timers.fire(this.now.monoMs);
    }
  }

  answer(from: string, body: Uint8Array | undefined): void {
    this.lanes.body(from, { type: "body", lane: "lane", seq: 0, body });
  }
}

describe("a body that a steal found elsewhere", () => {
  it("is asked of each replica once, and waited for however slow their links are", () => {
    const fetching = new Fetching();
    fetching.wait(60_000);
    expect(fetching.asked.toSorted()).toEqual([SECOND, THIRD]);
    expect(fetching.lanes.isServing("lane")).toBe(true);
  });

  it("is asked for again over a new link, and of who had not read it", () => {
    const fetching = new Fetching();
    fetching.wait(5_000);
    fetching.lanes.linkDown(SECOND);
    fetching.answer(THIRD, undefined);
    fetching.wait(5_000);
    expect(fetching.asked.toSorted()).toEqual([SECOND, SECOND, THIRD, THIRD]);
  });

  it("is given up, and the lane prepared once more, if nobody has it", () => {
    const fetching = new Fetching();
    for (let no = 0; no < 30; no += 1) {
      for (const peer of fetching.asked.splice(0)) fetching.answer(peer, undefined);
      fetching.wait(1_000);
    }
    expect(fetching.lanes.isServing("lane")).toBe(false);
  });
});
