import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { SeededRandom } from "@klatsch/kit";
import { createMesh } from "@klatsch/mesh";
import type { Channel, Mesh } from "@klatsch/mesh";
import { contract, createRpc, method } from "@klatsch/rpc";
import type { Rpc } from "@klatsch/rpc";
import { describe, expect, it } from "vitest";
import { z } from "zod";

const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex.replaceAll(" ", ""), "hex"));
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

const api = contract({
  name: "t",
  methods: {
    echo: method({ input: z.string(), output: z.string(), access: "members", idempotent: true }),
    count: method({ input: z.number(), output: z.number(), access: "members", stream: "output" }),
    sum: method({ input: z.number(), output: z.number(), access: "members", stream: "input" }),
    note: method({ input: z.string(), output: z.undefined(), access: "members" }),
  },
});

/** A member with rpc, and another that speaks raw frames on the same channel. */
async function raw(
  work: (at: { rpc: Rpc; sound: Mesh; other: Mesh; channel: Channel; heard: string[] }) => Promise<void>,
) {
  const directory = await mkdtemp(join(tmpdir(), "klatsch-interop-"));
  const sound = await createMesh({ name: "sound", dataDir: join(directory, "a") });
  const rpc = createRpc({ mesh: sound });
  const other = await createMesh({
    name: "other",
    dataDir: join(directory, "b"),
    bootstrap: sound.addresses(),
  });
  const heard: string[] = [];
  const channel = other.channel(
    "klatsch/rpc/1/normal",
    {
      onUp: () => undefined,
      onDown: () => undefined,
      onFrame: (_peer, frame) => void heard.push(hexOf(frame)),
    },
    { class: "normal" },
  );
  try {
    while (rpc.stats().links === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    await work({ rpc, sound, other, channel, heard });
  } finally {
    await rpc.stop();
    await Promise.all([sound.stop(), other.stop()]);
    await rm(directory, { recursive: true, force: true });
  }
}

async function until(condition: () => boolean): Promise<void> {
  const endMs = performance.now() + 10_000;
  while (!condition() && performance.now() < endMs) await new Promise((resolve) => setTimeout(resolve, 2));
}

/** `dd`, how many there are in the list, version 1, and the items. */
const frameOf = (...items: readonly string[]): string =>
  `dd${(items.length + 1).toString(16).padStart(8, "0")}01${items.join("")}`.replaceAll(" ", "");

/** Each kind of item as it is on the wire. */
const GOLDEN = {
  ask: "95 00 07 a6742e6563686f cd03e8 a26869",
  askWithLaterFields: "98 00 08 a6742e6563686f cd03e8 a26869 c0 c0 c3",
  askWithKeyAndTrace: "97 00 0b a6742e6563686f cd03e8 a26869 a16b a0",
  reply: "93 01 07 a26869",
  fail: "97 02 09 04",
  askStream: "95 00 0a a7742e636f756e74 c0 02",
  item0: "94 04 0a c2 00",
  item1: "94 04 0a c2 01",
  endOfOutput: "92 01 0a",
  askUpload: "94 00 0c a5742e73756d c0",
  itemUp: "94 04 0c c3 05",
  endOfInput: "92 05 0c",
  uploaded: "93 01 0c 0a",
  askLong: "95 00 0d a7742e636f756e74 c0 cc c8",
  creditDown: "94 06 0d c2 20",
  cancel: "92 03 0d",
  cast: "94 07 a6742e6e6f7465 a26869 a3616c6c",
  castSpread: "95 07 a6742e6e6f7465 a26869 a3616c6c 09",
  took: "92 09 ce 00020000",
  emit: "95 0a a46e657773 07 a26869 c2",
  emitSpread: "96 0a a46e657773 08 a26869 c2 c3",
  recall: "93 0b a46e657773 01",
} as const;

describe("rpc frames", () => {
  /** A sound member that serves `api`, and what it is told. */
  async function served(
    work: (at: {
      rpc: Rpc;
      other: Mesh;
      heard: string[];
      told: string[];
      send: (...items: readonly string[]) => void;
      answer: (...items: readonly string[]) => Promise<string>;
    }) => Promise<void>,
  ): Promise<void> {
    await raw(async ({ rpc, sound, other, channel, heard }) => {
      const told: string[] = [];
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
        note: (input) => void told.push(`note ${input}`),
      });
      rpc.subscribe("news", z.string(), (value) => told.push(`news ${value}`));
      const send = (...items: readonly string[]): void =>
        expect(channel.send(sound.peerId, bytesOf(frameOf(...items)))).toBe(true);
      const answer = async (...items: readonly string[]): Promise<string> => {
        heard.length = 0;
        send(...items);
        await until(() => heard.length > 0);
        return heard.join(" ");
      };
      await work({ rpc, other, heard, told, send, answer });
      expect(rpc.stats().badFrames).toBe(0);
    });
  }

  it("of calls and streams keep their golden bytes", async () => {
    await served(async ({ rpc, other, heard, send, answer }) => {
      const { ask, reply } = GOLDEN;
      expect(await answer(ask)).toBe(frameOf(reply));
      expect(await answer(GOLDEN.askWithLaterFields)).toBe(frameOf(reply.replace("93 01 07", "93 01 08")));
      expect(await answer(GOLDEN.askWithKeyAndTrace)).toBe(frameOf(reply.replace("93 01 07", "93 01 0b")));
      const unknown = ask.replace("95 00 07 a6742e6563686f", "95 00 09 a6742e6563687a");
      expect(await answer(unknown)).toContain(frameOf(GOLDEN.fail));
      const { item0, item1, endOfOutput } = GOLDEN;
      expect(await answer(GOLDEN.askStream)).toBe(frameOf(item0, item1, endOfOutput));
      send(GOLDEN.askUpload);
      expect(await answer(GOLDEN.itemUp, GOLDEN.itemUp, GOLDEN.endOfInput)).toBe(frameOf(GOLDEN.uploaded));
      // 64 items of credit, 32 more of 200, and no more after a cancel.
      const items = (): number => heard.join("").split("94040dc2").length - 1;
      send(GOLDEN.askLong);
      await until(() => items() === 64);
      send(GOLDEN.creditDown);
      await until(() => items() === 96);
      send(GOLDEN.took); // Late for this window: no harm.
      expect(await answer(GOLDEN.cancel, ask)).toBe(frameOf(reply));

      heard.length = 0;
      const asked = rpc.peer(other.peerId, api).echo("hi", { deadlineMs: 60_000 });
      await until(() => heard.length > 0);
      // What is left of the deadline is the one field that depends on the clock: `cd` and two bytes, ≤ 60,000.
      const [, left] = /^dd0000000201950001a6742e6563686fcd(....)a26869$/.exec(heard[0] ?? "") ?? [];
      expect(Number(`0x${left ?? "none"}`)).toBeGreaterThan(0);
      expect(Number(`0x${left ?? "none"}`)).toBeLessThanOrEqual(60_000);
      send(reply.replace("93 01 07", "93 01 01"));
      expect(await asked).toBe("hi");
    });
  });

  it("of casts and topics keep their golden bytes", async () => {
    await served(async ({ rpc, other, heard, told, send, answer }) => {
      send(
        GOLDEN.cast,
        GOLDEN.castSpread,
        GOLDEN.castSpread,
        GOLDEN.emit,
        GOLDEN.emitSpread,
        GOLDEN.emitSpread,
      );
      await until(() => told.length >= 4);
      expect(told.toSorted()).toEqual(["news hi", "news hi", "note hi", "note hi"]);
      heard.length = 0;
      await rpc.cast([other.peerId], api, "note", "hi");
      await rpc.emit("news", "hi");
      await until(() => heard.length > 0);
      expect(heard.join("")).toBe(frameOf(GOLDEN.cast, GOLDEN.emit.replace("73 07", "73 01")));
      expect(await answer(GOLDEN.recall)).toBe(frameOf("95 0a a46e657773 01 a26869 c3"));
    });
  });

  it("of large items keep their golden bytes", async () => {
    await served(async ({ heard, send }) => {
      const text = "x".repeat(40_000); // `da 9c40`: 40,000 characters.
      const item = `95 00 0e a6742e6563686f c0 da9c40${Buffer.from(text).toString("hex")}`.replaceAll(
        " ",
        "",
      );
      const chunk = (last: boolean, hex: string): string => {
        const length = (hex.length / 2).toString(16).padStart(8, "0");
        return `94 08 01 ${last ? "c3" : "c2"} c6${length}${hex}`;
      };
      send(chunk(false, item.slice(0, 65_536)));
      send(chunk(true, item.slice(65_536)));
      const answer = `93010eda9c40${Buffer.from(text).toString("hex")}`;
      const wanted = frameOf(chunk(false, answer.slice(0, 65_536)), chunk(true, answer.slice(65_536)));
      await until(() => heard.length > 0);
      expect(heard.join("")).toBe(wanted);
    });
  });
});

describe("a member that sends garbage on rpc's channel", () => {
  it("is cut and counted, and harms nobody", { timeout: 60_000 }, async () => {
    await raw(async ({ rpc, sound, channel }) => {
      rpc.serve(api, { echo: (input) => input, count: () => [], sum: () => 0, note: () => undefined });
      const random = new SeededRandom(20_261_121);
      const models = Object.values(GOLDEN).map((item) => bytesOf(frameOf(item)));
      const next = (): Uint8Array => {
        const model = models[random.uint32() % models.length] ?? new Uint8Array(0);
        const frame = model.slice(0, random.uint32() % 4 === 0 ? random.uint32() % model.length : undefined);
        for (let times = random.uint32() % 4; times >= 0; times -= 1) {
          frame[random.uint32() % Math.max(1, frame.length)] = random.uint32() & 255;
        }
        return frame;
      };
      // A burst at a time: the sound member ends the session at the first frame that is malformed.
      for (
        let sent = 0;
        sent < 10_000 || rpc.stats().badFrames < 5;
        await new Promise((resolve) => setTimeout(resolve, 5))
      ) {
        for (let times = 0; times < 2_000 && channel.send(sound.peerId, next()); times += 1) sent += 1;
      }
      expect(rpc.stats().badFrames).toBeGreaterThanOrEqual(5);
      expect(await rpc.peer(sound.peerId, api).echo("still here")).toBe("still here");
      expect(rpc.stats().pending).toBe(0);
    });
  });
});
