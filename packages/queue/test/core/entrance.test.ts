import { expect, it } from "vitest";

import type { Context } from "../../src/core/context.ts";
import { Entrances } from "../../src/core/entrance.ts";
import { LaneOrder } from "../../src/core/lane-order.ts";
import type { LaneWriter } from "../../src/core/lane-writer.ts";
import type { EnterItem, Message } from "../../src/core/messages.ts";
import { enqueued, PLAIN } from "../../src/core/register.ts";

const KEEP_MS = 10_000;

// Found by seed 22849 of runs that lose stores faster than lanes move.
it("lets no enqueue in that waited until its token may be forgotten: another copy may be in the lane", () => {
  const sent: Message[] = [];
  const now = { monoMs: 0, wallMs: 0 };
  const context = {
    now,
    tuning: { appendWindow: 1, pendingEnqueues: 100, tokenKeepMs: KEEP_MS },
    send: (_to: string, message: Message) => sent.push(message),
  } as unknown as Context;
  const appended: string[] = [];
  const lane = {
    root: "l",
    isAppending: true,
    isFull: false,
    order: new LaneOrder(0, KEEP_MS),
    get nextSeq() {
      return appended.length;
    },
    append: ({ attributes }: { attributes: { token: string } }) => appended.push(attributes.token),
  } as unknown as LaneWriter;
  const entrances = new Entrances(context, {
    claim: () => undefined,
    leaseMs: () => 1_000,
    hint: () => undefined,
  });
  const item = (token: string): EnterItem => {
    const body = new Uint8Array();
    const content = { body, bodyHash: "", notBeforeWallMs: 0, enqueuedWallMs: 0 };
    return { value: enqueued({ ...content, attributes: { ...PLAIN, token } }, 1_000), body };
  };
  entrances.enter("a", lane, "l", [item("first"), item("twice"), item("twice")]);
  entrances.exists(lane, 0);
  expect(appended).toEqual(["first", "twice"]);
  now.monoMs = KEEP_MS + 1;
  entrances.enter("a", lane, "l", [item("late")]);
  entrances.exists(lane, 1);
  expect(appended).toEqual(["first", "twice", "late"]);
  entrances.flush();
  const answers = sent.flatMap((message) => (message.type === "entered" ? message.items : []));
  expect(answers).toContainEqual({ token: "twice", code: "ELSEWHERE", seq: 0 });
});
