import { systemClock } from "@klatsch/kit";
import type { Stream } from "@libp2p/interface";
import type { Uint8ArrayList } from "uint8arraylist";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FrameDecoder } from "../../src/codec/framing.ts";
import { FRAME_COPIED_BYTES_MAX, FrameStream } from "../../src/host/frame-stream.ts";

type Bytes = Uint8Array | Uint8ArrayList;

/** A stream that copies what it takes while it has room, and keeps views of what it could not pass on until it drains. */
class Pipe extends EventTarget {
  readonly status = "open";
  readonly chunks: number[] = [];
  writableNeedsDrain = false;
  #kept: Bytes[] = [];
  readonly #copies: Uint8Array[] = [];
  readonly #hasRoom: () => boolean;

  constructor(hasRoom: () => boolean) {
    super();
    this.#hasRoom = hasRoom;
  }

  send(bytes: Bytes): boolean {
    this.chunks.push(bytes.byteLength);
    if (this.#hasRoom()) this.#copies.push(Uint8Array.from(bytes.subarray()));
    else this.writableNeedsDrain = this.#kept.push(bytes) > 0;
    return !this.writableNeedsDrain;
  }

  drain(): void {
    for (const bytes of this.#kept) this.#copies.push(Uint8Array.from(bytes.subarray()));
    this.#kept = [];
    this.writableNeedsDrain = false;
    this.dispatchEvent(new Event("drain"));
  }

  frames(): [channel: number, payload: string][] {
    const frames: [number, string][] = [];
    const decoder = new FrameDecoder(1_000_000);
    for (const bytes of this.#copies) {
      decoder.push(
        bytes,
        (channel, payload) => frames.push([channel, Buffer.from(payload).toString("latin1")]) > 0,
      );
    }
    return frames;
  }

  abort(): void {}
}

function open(
  pipe: Pipe,
  encrypted: boolean,
  limits = { queueFramesMax: 1_000, queueBytesMax: 10_000_000 },
): FrameStream {
  return new FrameStream({
    stream: pipe as unknown as Stream,
    encrypted,
    payloadBytesMax: 1_000_000,
    limits,
    clock: systemClock,
    onFrame: () => true,
    onEnd: () => undefined,
  });
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const lengths = fc.oneof(
  { weight: 4, arbitrary: fc.nat(200) },
  { weight: 2, arbitrary: fc.integer({ min: 20_000, max: FRAME_COPIED_BYTES_MAX }) },
  { weight: 1, arbitrary: fc.integer({ min: FRAME_COPIED_BYTES_MAX, max: 200_000 }) },
);

describe("a frame stream", () => {
  it.each([true, false])(
    "delivers what was sent although memory is written over (encrypted: %s)",
    async (encrypted) => {
      const step = fc.oneof(
        { weight: 5, arbitrary: fc.record({ kind: fc.constant("send" as const), length: lengths }) },
        { weight: 2, arbitrary: fc.constant({ kind: "turn" as const, length: 0 }) },
        { weight: 1, arbitrary: fc.constant({ kind: "drain" as const, length: 0 }) },
      );
      const property = fc.asyncProperty(
        fc.array(step, { maxLength: 60 }),
        fc.infiniteStream(fc.boolean()),
        async (steps, room) => {
          const pipe = new Pipe(() => room.next().value);
          const stream = open(pipe, encrypted);
          const sent: [number, string][] = [];
          const scratch = Buffer.alloc(FRAME_COPIED_BYTES_MAX);
          for (const [no, { kind, length }] of steps.entries()) {
            if (kind === "turn") await turn();
            else if (kind === "drain") pipe.drain();
            else {
              const payload =
                length > FRAME_COPIED_BYTES_MAX ? Buffer.alloc(length) : scratch.subarray(0, length);
              payload.fill(no + 1);
              expect(stream.send(no, payload)).toBe(true);
              sent.push([no, payload.toString("latin1")]);
              if (length <= FRAME_COPIED_BYTES_MAX) payload.fill(255);
            }
          }
          for (let more = 0; more < 200 && stream.queuedFrames > 0; more += 1) {
            pipe.drain();
            await turn();
          }
          pipe.drain();
          expect(pipe.frames()).toEqual(sent);
          expect(stream.queuedBytes).toBe(0);
        },
      );
      await fc.assert(property, { numRuns: 150 });
    },
  );

  it("sends the first frame of a turn at once and the others together at its end", async () => {
    const pipe = new Pipe(() => true);
    const stream = open(pipe, true);
    stream.send(1, Buffer.alloc(10));
    await Promise.resolve();
    for (let at = 0; at < 100; at += 1) stream.send(1, Buffer.alloc(10));
    await turn();
    expect(pipe.chunks).toEqual([16, 1_600]);
  });

  it("takes no more than its limits, but one frame of any size", async () => {
    const pipe = new Pipe(() => false);
    const stream = open(pipe, true, { queueFramesMax: 3, queueBytesMax: 1_000 });
    expect(stream.send(1, Buffer.alloc(5_000))).toBe(true);
    expect(stream.send(1, Buffer.alloc(1))).toBe(false);
    await turn(); // It left, and the stream waits for `drain`.
    expect([1, 2, 3, 4].map(() => stream.send(1, Buffer.alloc(1)))).toEqual([true, true, true, false]);
    expect(stream.queuedFrames).toBe(3);
    expect(stream.queuedBytes).toBe(21);
  });
});
