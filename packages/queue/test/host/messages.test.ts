import { expect, it } from "vitest";

import { HeldMessage } from "../../src/host/message.ts";
import { MessageStream } from "../../src/host/messages.ts";

it("does not show what was lost while nobody asked for it", async () => {
  const settled: (readonly [number, string])[] = [];
  const stream = new MessageStream(() => undefined);
  const [first] = [1, 2].map((seq) => {
    const held = { lane: "lane", seq, epoch: 1, session: "session", leaseMs: 1_000, ageMs: 0 };
    const rest = { enqueuedWallMs: 0, attributes: undefined, reason: undefined, body: undefined };
    const message = new HeldMessage(
      { ...held, ...rest, deliveries: 0 },
      "queue",
      new Uint8Array(),
      0,
      (_, { kind }) => void settled.push([seq, kind]),
    );
    stream.deliver(message);
    return message;
  });
  first?.lose();
  expect((await stream.next()).value?.id).toBe("lane-2");
  expect(settled).toEqual([[1, "release"]]);
});
