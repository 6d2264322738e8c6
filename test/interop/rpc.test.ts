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

// `dd 00000002 01`: a list of two, version 1 and one item.
const GOLDEN = {
  ask: "dd0000000201 95 00 07 a6742e6563686f cd03e8 a26869",
  askWithMoreFields: "dd0000000201 97 00 08 a6742e6563686f cd03e8 a26869 c0 c3",
  reply: "dd0000000201 93 01 07 a26869",
  fail: "dd0000000201 97 02 09 04",
  stream: "dd0000000201 95 00 0a a7742e636f756e74 c0 02",
  items: "dd0000000401 94 04 0a c2 00 94 04 0a c2 01 92 01 0a",
  cancel: "dd0000000201 92 03 0a",
  cast: "dd0000000201 94 07 a6742e6e6f7465 a26869 a3616c6c",
} as const;

describe("rpc frames", () => {
  it("keep their golden bytes", async () => {
    await raw(async ({ rpc, sound, other, channel, heard }) => {
      const notes: string[] = [];
      rpc.serve(api, {
        echo: (input) => input,
        *count(to) {
          for (let no = 0; no < to; no += 1) yield no;
        },
        note: (input) => void notes.push(input),
      });
      const answer = async (hex: string): Promise<string> => {
        heard.length = 0;
        expect(channel.send(sound.peerId, bytesOf(hex))).toBe(true);
        await until(() => heard.length > 0);
        return heard.join(" ");
      };
      const clean = (hex: string): string => hex.replaceAll(" ", "");
      expect(await answer(GOLDEN.ask)).toBe(clean(GOLDEN.reply));
      expect(await answer(GOLDEN.askWithMoreFields)).toBe(clean(GOLDEN.reply).replace("930107", "930108"));
      expect(
        await answer(GOLDEN.ask.replace("95 00 07 a6742e6563686f", "95 00 09 a6742e6563687a")),
      ).toContain(clean(GOLDEN.fail));
      expect(await answer(GOLDEN.stream)).toBe(clean(GOLDEN.items));
      channel.send(sound.peerId, bytesOf(GOLDEN.cancel)); // Late: ignored.
      channel.send(sound.peerId, bytesOf(GOLDEN.cast));
      await until(() => notes.length > 0);
      expect(notes).toEqual(["hi"]);
      heard.length = 0;
      const asked = rpc.peer(other.peerId, api).echo("hi", { deadlineMs: 1_000 });
      await until(() => heard.length > 0);
      expect(heard[0]).toMatch(/^dd0000000201950001a6742e6563686fcd03e[78]a26869$/);
      channel.send(sound.peerId, bytesOf(GOLDEN.reply.replace("93 01 07", "93 01 01")));
      expect(await asked).toBe("hi");
      expect(rpc.stats().badFrames).toBe(0);
    });
  });
});

describe("a member that sends garbage on rpc's channel", () => {
  it("is cut and counted, and harms nobody", { timeout: 60_000 }, async () => {
    await raw(async ({ rpc, sound, channel }) => {
      rpc.serve(api, { echo: (input) => input, count: () => [], note: () => undefined });
      const random = new SeededRandom(20_261_121);
      const models = Object.values(GOLDEN).map(bytesOf);
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
