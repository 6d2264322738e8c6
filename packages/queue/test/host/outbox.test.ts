import type { Channel } from "@klatsch/mesh";
import { expect, it, vi } from "vitest";

import { decodeFrame } from "../../src/codec/frames.ts";
import { bodyHash } from "../../src/codec/hash.ts";
import type { Message } from "../../src/core/messages.ts";
import { enqueued, PLAIN } from "../../src/core/register.ts";
import { Outbox } from "../../src/host/outbox.ts";

const LISTS = { definitions: [], consumes: [], echoes: [], deleted: [] };
const hello: Message = { type: "hello", store: undefined, boot: 1, floor: undefined, ...LISTS };
const floor = (laneNo: number): Message => ({ type: "floor", floor: { boot: 1, laneNo } });

it("puts no more enqueues with large bodies into a frame than it takes", async () => {
  const frames: Uint8Array[] = [];
  const resets: string[] = [];
  const channel: Channel = {
    name: "test",
    class: "normal",
    frameBytesMax: 256 * 1_024,
    peers: () => ["b"],
    send: (_, frame) => frame.length <= channel.frameBytesMax && frames.push(Uint8Array.from(frame)) > 0,
    reset: (_, reason) => void resets.push(reason),
    close: () => undefined,
  };
  const outbox = new Outbox(
    { channel: () => channel, bulk: () => undefined },
    () => [],
    (error) => expect.fail(String(error)),
  );
  outbox.up("b");
  const content = { notBeforeWallMs: 0, enqueuedWallMs: 0 };
  const enter = (no: number): Message => {
    const body = new Uint8Array(40 * 1_024).fill(no);
    const attributes = { ...PLAIN, token: `t${no}` };
    return {
      type: "enter",
      lane: "7".repeat(64),
      items: [{ value: enqueued({ ...content, attributes, body, bodyHash: bodyHash(body) }, 1_000), body }],
    };
  };
  for (const message of [hello, ...Array.from({ length: 30 }, (_, no) => enter(no))])
    outbox.push("b", message);
  await new Promise((resolve) => setImmediate(resolve));
  expect(resets).toEqual([]);
  const told = frames.flatMap((frame) => decodeFrame(frame));
  const entered = told.flatMap((message) => (message.type === "enter" ? message.items : []));
  expect(entered.map(({ body }) => body[0])).toEqual(Array.from({ length: 30 }, (_, no) => no));
});

it("says nothing in a session before its hello, whatever the last one left to say", async () => {
  const sent: Message[] = [];
  const channel: Channel = {
    name: "test",
    class: "high",
    frameBytesMax: 1_024 * 1_024,
    peers: () => ["b"],
    send: (_, frame) => sent.push(...decodeFrame(frame)) > 0,
    reset: () => undefined,
    close: () => undefined,
  };
  const failed: unknown[] = [];
  const ways = { channel: () => channel, bulk: () => undefined };
  const outbox = new Outbox(
    ways,
    () => [],
    (error) => failed.push(error),
  );
  const turn = async (...messages: readonly Message[]): Promise<readonly Message["type"][]> => {
    for (const message of messages) outbox.push("b", message);
    await new Promise((resolve) => setImmediate(resolve));
    return sent.splice(0).map(({ type }) => type);
  };
  expect(await turn(floor(1))).toEqual([]);
  outbox.up("b");
  expect(await turn(floor(2))).toEqual([]);
  expect(await turn(floor(3), hello, floor(4))).toEqual(["hello", "floor"]);
  expect(await turn(floor(5))).toEqual(["floor"]);
  outbox.down("b");
  outbox.up("b");
  expect(await turn(floor(6))).toEqual([]);
  expect(await turn(hello)).toEqual(["hello"]);
  expect(failed).toEqual([]);
});

/** A channel whose queue is full until `open` is called, and what it carries then. */
function fullChannel(): { channel: Channel; sent: Message[]; open: () => void } {
  const sent: Message[] = [];
  let isFull = true;
  const channel: Channel = {
    name: "test",
    class: "high",
    frameBytesMax: 1_024 * 1_024,
    peers: () => ["b"],
    send: (_, frame) => !isFull && sent.push(...decodeFrame(frame)) > 0,
    reset: () => undefined,
    close: () => undefined,
  };
  return { channel, sent, open: () => (isFull = false) };
}

/** What a peer that does not read for a while is sent once it does. */
async function afterwards(messages: readonly Message[]): Promise<readonly Message[]> {
  vi.useFakeTimers();
  const { channel, sent, open } = fullChannel();
  const outbox = new Outbox(
    { channel: () => channel, bulk: () => undefined },
    () => [],
    (error) => expect.fail(String(error)),
  );
  outbox.up("b");
  for (const message of messages) outbox.push("b", message);
  await vi.advanceTimersByTimeAsync(1);
  open();
  await vi.advanceTimersByTimeAsync(100);
  vi.useRealTimers();
  return sent;
}

it("keeps no more answers for a peer that does not read than it can have questions open", async () => {
  const counts = { ready: 0, delayed: 0, leased: 0, dead: 0, unserved: 0, oldestWallMs: 0 };
  const lanes = { lanes: 0, weakLanes: 0, movingLanes: 0 };
  const nothing = {
    items: [],
    count: 0,
    consumers: [],
    groups: [],
    shards: [],
    last: undefined,
    lanes: undefined,
  };
  const managed = (token: number): Message => {
    return { type: "managed", token, counts: { ...counts, ...lanes }, ...nothing };
  };
  const answers = Array.from({ length: 600 }, (_, token) => managed(token));
  const types = (await afterwards([hello, ...answers, floor(1)])).map(({ type }) => type);
  expect(types.filter((type) => type === "managed")).toHaveLength(512);
  expect([types[0], types.at(-1)]).toEqual(["hello", "floor"]);
});

it("keeps the last of the pages of one lane, for a peer that asks again and does not read", async () => {
  const nothing = { last: true, registers: [], finished: [], end: undefined, keys: [], packed: [] };
  const page = (lane: string, round: number): Message => {
    return { type: "page", lane: lane.repeat(64), round, snapshot: round, index: 0, ...nothing };
  };
  const again = Array.from({ length: 3_000 }, (_, no) => page("7", no + 1));
  const sent = await afterwards([hello, page("8", 1), floor(1), ...again]);
  const rounds = sent.flatMap((message) =>
    message.type === "page" && message.lane.startsWith("7") ? message.round : [],
  );
  expect(rounds.length).toBeLessThan(1_024);
  expect(rounds.at(-1)).toBe(3_000);
  expect(sent.slice(0, 3).map(({ type }) => type)).toEqual(["hello", "page", "floor"]);
});

it("ends the session of a peer that takes nothing, before what waits for it is without end", async () => {
  vi.useFakeTimers();
  const { channel, sent, open } = fullChannel();
  const resets: string[] = [];
  const outbox = new Outbox(
    { channel: () => ({ ...channel, reset: (peer) => void resets.push(peer) }), bulk: () => undefined },
    () => [],
    (error) => expect.fail(String(error)),
  );
  outbox.up("b");
  outbox.push("b", hello);
  await vi.advanceTimersByTimeAsync(1);
  for (let laneNo = 0; laneNo < 140_000; laneNo += 1) outbox.push("b", floor(laneNo));
  expect(resets).toEqual(["b"]);
  outbox.down("b");
  outbox.up("b");
  open();
  for (const message of [hello, floor(1)]) outbox.push("b", message);
  await vi.advanceTimersByTimeAsync(100);
  vi.useRealTimers();
  expect(sent.map(({ type }) => type)).toEqual(["hello", "floor"]);
});
