import { SeededRandom } from "@klatsch/kit";
import type { Channel, ChannelHandlers, Mesh } from "@klatsch/mesh";
import { contract, createRpc, method } from "@klatsch/rpc";
import { describe, expect, it } from "vitest";
import { z } from "zod";

import { FrameWriter } from "../src/codec/frame-writer.ts";
import { encodeParts, wholeOf } from "../src/codec/frames.ts";
import { CHUNK_BYTES } from "../src/core/limits.ts";
import { fault } from "../src/core/messages.ts";
import type { Message } from "../src/core/messages.ts";
import { Nodes, until } from "./support/nodes.ts";

const FRAMES = 100_000;

const api = contract({
  methods: {
    echo: method({ input: z.unknown(), output: z.unknown(), access: "members" }),
    count: method({ input: z.number(), output: z.number(), access: "members", stream: "output" }),
    sum: method({ input: z.number(), output: z.number(), access: "members", stream: "input" }),
  },
});

/** What a peer may say, all kinds. Ids of asks are added: each is used once. */
const said = (no: number): readonly Message[] => [
  {
    type: "ask",
    id: no,
    method: "echo",
    remainingMs: 50,
    input: { a: [1, "x"] },
    key: undefined,
    trace: "t",
  },
  { type: "ask", id: no + 1, method: "count", remainingMs: 50, input: 100, key: undefined, trace: undefined },
  { type: "ask", id: no + 2, method: "sum", remainingMs: 50, input: undefined, key: "k", trace: undefined },
  { type: "item", id: no + 2, up: true, value: 5 },
  { type: "credit", id: no + 1, up: false, count: 8 },
  { type: "end", id: no + 2 },
  { type: "cancel", id: no },
  { type: "reply", id: no, value: "x" },
  { type: "fail", id: no, fault: fault("DENIED", "no") },
  { type: "cast", method: "echo", input: 1, target: "all & !zone=a", no: 3, trace: undefined },
  { type: "chunk", flow: 3, last: true, bytes: encodeParts({ type: "cancel", id: no }).head },
  { type: "took", bytes: 1_000 },
  { type: "emit", topic: "news", no: 9, value: 1, replayed: false, spread: true },
  { type: "recall", topic: "news", count: 2 },
];

function frameOf(messages: readonly Message[]): Uint8Array {
  const writer = new FrameWriter();
  for (const message of messages) writer.add(encodeParts(message));
  return writer.finish();
}

interface Tap {
  readonly mesh: Mesh;
  readonly handlers: ChannelHandlers[];
  resets: number;
  /** To the peer. */
  sentBytes: number;
}

/** The mesh of a node, of which the test takes hold: it hears and says what a peer's channel would. */
function tapped(mesh: Mesh): Tap {
  const tap = { mesh, handlers: new Array<ChannelHandlers>(), resets: 0, sentBytes: 0 };
  tap.mesh = new Proxy(mesh, {
    get(target, name) {
      if (name !== "channel") {
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === "function" ? (value.bind(target) as unknown) : value;
      }
      return (channel: string, handlers: ChannelHandlers): Channel => {
        tap.handlers.push(handlers);
        const reset = (peer: string): void => {
          tap.resets += 1;
          handlers.onDown(peer);
          handlers.onUp(peer);
        };
        return {
          name: channel,
          class: "normal",
          frameBytesMax: 2 ** 24,
          peers: () => [],
          send: (_peer, frame) => {
            tap.sentBytes += frame.length;
            return true;
          },
          reset,
          close: () => undefined,
        };
      };
    },
  });
  return tap;
}

describe("garbage on rpc's channels", () => {
  it(
    `never harms the node: ${FRAMES.toLocaleString("en")} frames, and every malformed one cuts its peer`,
    { timeout: 60_000 },
    async () => {
      await using nodes = await Nodes.start("a");
      const tap = tapped(nodes.get("a").mesh);
      await nodes.get("a").rpc.stop(); // Its place is taken by one that the test speaks to.
      await using rpc = createRpc({ mesh: tap.mesh });
      rpc.serve(api, {
        echo: (input) => input,
        *count(to) {
          for (let no = 0; no < to; no += 1) yield no;
        },
        sum: async (source) => {
          let total = 0;
          for await (const one of source) total += one;
          return total;
        },
      });
      const random = new SeededRandom(20_261_127);
      const below = (count: number): number => random.uint32() % count;
      const [high, normal] = tap.handlers;
      if (high === undefined || normal === undefined) throw new Error("no channels");
      for (const { onUp } of tap.handlers) onUp("evil");
      for (let sent = 0; sent < FRAMES; sent += 1) {
        const all = said(sent * 3);
        const frame = frameOf(Array.from({ length: 1 + below(4) }, () => all[below(all.length)] as Message));
        for (let times = below(4); times > 0; times -= 1) frame[below(frame.length)] = below(256);
        normal.onFrame("evil", below(8) === 0 ? frame.slice(0, below(frame.length)) : frame);
        if (sent % 1_000 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      const { badFrames } = rpc.stats();
      expect(badFrames).toBe(tap.resets);
      expect(badFrames).toBeGreaterThan(FRAMES / 10);
      expect(badFrames).toBeLessThan(FRAMES * 0.9); // Sound ones were among them.
      for (const { onDown } of tap.handlers) onDown("evil");
      await until("all handlers have ended", () => rpc.stats().running === 0);
      expect(rpc.stats().pending).toBe(0);
      expect(await rpc.peer(nodes.get("a").id, api).echo("still here")).toBe("still here");
    },
  );

  it("has a limit to what one frame that asks for much has sent in a turn of the event loop", async () => {
    await using nodes = await Nodes.start("a");
    const tap = tapped(nodes.get("a").mesh);
    await nodes.get("a").rpc.stop();
    await using rpc = createRpc({ mesh: tap.mesh });
    for (let no = 0; no < 64; no += 1) await rpc.emit("news", no);
    for (const { onUp } of tap.handlers) onUp("evil");
    const asked = Array.from(
      { length: 4_000 },
      () => ({ type: "recall", topic: "news", count: 64 }) as const,
    );
    tap.handlers[1]?.onFrame("evil", frameOf(asked));
    await new Promise((resolve) => process.nextTick(resolve)); // All that was written has left, if there was room.
    const told = tap.sentBytes;
    expect(told).toBeGreaterThan(64 * 64);
    expect(told).toBeLessThan(256 * 1_024); // All of it would be 4 MB, of which 2 MiB may be under way.
    await until("the next topics follow", () => tap.sentBytes > told);
  });

  it("runs casts while they have no more bytes than they may, and drops the others", async () => {
    await using nodes = await Nodes.start("a");
    const tap = tapped(nodes.get("a").mesh);
    await nodes.get("a").rpc.stop();
    await using rpc = createRpc({ mesh: tap.mesh });
    let running = 0;
    rpc.serve(api, {
      echo: async () => {
        running += 1;
        return await new Promise(() => undefined);
      },
      count: () => [],
      sum: () => 0,
    });
    for (const { onUp } of tap.handlers) onUp("evil");
    const input = new Uint8Array(4 * 2 ** 20 - 1_024);
    const cast = {
      type: "cast",
      method: "echo",
      input: [input],
      target: "all",
      no: undefined,
      trace: undefined,
    } as const;
    const item = wholeOf(encodeParts(cast));
    for (let no = 0; no < 40; no += 1)
      for (let from = 0; from < item.length; from += CHUNK_BYTES) {
        const bytes = item.subarray(from, from + CHUNK_BYTES);
        const last = from + CHUNK_BYTES >= item.length;
        tap.handlers[1]?.onFrame("evil", frameOf([{ type: "chunk", flow: 1, last, bytes }]));
      }
    expect(rpc.stats().castsDropped).toBe(8); // 160 MiB, of which 128 may run.
    await until("the others run", () => running === 32);
  });
});
