/** Plays one scenario between real network namespaces, prints what was seen as JSON, and leaves nothing behind. */
import type { MeshInit } from "@klatsch/mesh";
import { World } from "./world.ts";

const CLOUDS: Readonly<Record<string, Partial<MeshInit>>> = {
  a: { cloud: "x" },
  g: { cloud: "x", gateway: true },
  h: { cloud: "y", gateway: true },
  d: { cloud: "y" },
};

const SCENARIOS: Readonly<Record<string, () => Promise<unknown>>> = {
  async chain() {
    return await within("abcd", "ab bc cd", {}, async (world) => ({
      linked: await world.ask("a", "reach", "d"),
      frames: await world.ask("a", "frames", "d"),
      trace: await world.ask("a", "trace", "d"),
    }));
  },

  async ring() {
    return await within("abcd", "ab bc cd da", {}, async (world) => {
      await world.ask("a", "reach", "c");
      await world.ask("a", "frames", "c");
      // Pulling one cable after the other leaves either way in turn.
      world.cable("b", "c", "down");
      const first = await world.ask("a", "frames", "c");
      world.cable("b", "c", "up");
      await world.ask("b", "frames", "c");
      world.cable("c", "d", "down");
      const second = await world.ask("a", "frames", "c");
      return { first, second, names: await world.ask("a", "names") };
    });
  },

  async clouds() {
    return await within("aghd", "ag gh hd", CLOUDS, async (world) => ({
      linked: await world.ask("a", "reach", "d"),
      frames: await world.ask("a", "frames", "d"),
      trace: await world.ask("a", "trace", "d"),
    }));
  },
};

async function within(
  names: string,
  cables: string,
  init: Readonly<Record<string, Partial<MeshInit>>>,
  play: (world: World) => Promise<unknown>,
): Promise<unknown> {
  const world = await World.of(names, cables);
  try {
    await world.start((name) => init[name] ?? {});
    await world.meet();
    return await play(world);
  } finally {
    world.end();
  }
}

const play = SCENARIOS[process.argv[2] ?? ""];
if (play === undefined) throw new Error(`one of ${Object.keys(SCENARIOS).join(", ")}`);
process.stdout.write(`${JSON.stringify(await play())}\n`, () => process.exit(0));
