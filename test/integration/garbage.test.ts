import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { SeededRandom } from "@klatsch/kit";
import { createMesh } from "@klatsch/mesh";
import type { Channel } from "@klatsch/mesh";
import { createQueues } from "@klatsch/queue";
import { describe, expect, it } from "vitest";

const TRIES = 10_000;
const SEED = 20_261_121;

/** Frames a real peer sent, for mutation, and random ones. */
class Garbage {
  readonly #random = new SeededRandom(SEED);
  readonly #models: Uint8Array[] = [];

  learn(frame: Uint8Array): void {
    if (this.#models.length < 200) this.#models.push(frame.slice());
  }

  next(): Uint8Array {
    const random = this.#random;
    const model = this.#models[random.uint32() % Math.max(1, this.#models.length)];
    if (model === undefined || random.uint32() % 3 === 0) {
      return Uint8Array.from({ length: 1 + (random.uint32() % 300) }, () => random.uint32() & 255);
    }
    const frame = model.slice(0, random.uint32() % 4 === 0 ? random.uint32() % model.length : undefined);
    for (let times = random.uint32() % 4; times >= 0; times -= 1) {
      frame[random.uint32() % Math.max(1, frame.length)] = random.uint32() & 255;
    }
    return frame;
  }
}

describe("a member that sends garbage on the queue's channel", () => {
  it("is cut and counted, and changes nothing", { timeout: 120_000 }, async () => {
    const directory = await mkdtemp(join(tmpdir(), "klatsch-garbage-"));
    const mesh = await createMesh({ name: "sound", dataDir: join(directory, "sound") });
    const queues = await createQueues({ mesh, dataDir: join(directory, "sound") });
    const queue = await queues.declare("jobs", { replicas: 1 });
    await queue.enqueue(new Uint8Array([1]));
    const bootstrap = [...mesh.addresses()];
    const evil = await createMesh({ name: "evil", bootstrap, dataDir: join(directory, "evil") });
    const garbage = new Garbage();
    const channel: Channel = evil.channel("klatsch/queue/1", {
      onUp: () => undefined,
      onDown: () => undefined,
      onFrame: (_peer, frame) => garbage.learn(frame),
    });
    // A burst at a time: the sound member ends the session at the first frame that is malformed.
    for (let sent = 0; sent < TRIES; await new Promise((resolve) => setTimeout(resolve, 20))) {
      for (let times = 0; times < 1_000 && channel.send(mesh.peerId, garbage.next()); times += 1) sent += 1;
    }
    await queue.enqueue(new Uint8Array([2]));
    const first = await queue.take();
    const second = await queue.take();
    expect([...first.body, ...second.body].toSorted()).toEqual([1, 2]);
    await Promise.all([first.ack(), second.ack()]);
    expect(queues.stats().badFrames).toBeGreaterThan(5);
    await evil.stop();
    await queues.stop();
    await mesh.stop();
    await rm(directory, { recursive: true, force: true });
  });
});
