/** Frames between nodes of `mesh.ts`, over links and tunnels alike. */
import { setImmediate as turn } from "node:timers/promises";
import type { Channel, Mesh } from "@klatsch/mesh";
import { sharedMs } from "./serve.ts";

const POURED_BYTES = 64 * 1024;
/** Every so many milliseconds a `beat`. */
const BEAT_MS = 5;
/** First byte of a frame. */
const KINDS = { ask: 1, answer: 2, pour: 3, last: 4 } as const;

export class Flow {
  readonly #mesh: Mesh;
  readonly #channel: Channel;
  readonly #paths = new Map<string, readonly string[]>();
  #onAnswer: () => void = () => undefined;
  #beating: NodeJS.Timeout | undefined;
  #answeredAt = 0;
  #longestMs = 0;
  beats = 0;

  constructor(mesh: Mesh) {
    this.#mesh = mesh;
    mesh.on("tunnel:up", ({ peerId, path }) => this.#paths.set(peerId, path));
    this.#channel = mesh.channel("bench", {
      onUp: () => undefined,
      onDown: () => undefined,
      onFrame: (peer, frame) => this.#received(peer, frame),
    });
  }

  /** The names of whoever the way leads over, once frames can be sent. */
  async reach(peer: string): Promise<readonly string[]> {
    await this.#mesh.connect(peer, { class: "bulk", waitMs: 30_000 });
    while (!this.#channel.peers().includes(peer)) await turn();
    const path = this.#mesh.member(peer)?.linked === true ? [] : (this.#paths.get(peer) ?? []);
    return path.map((peerId) => this.#mesh.member(peerId)?.name ?? "?");
  }

  async roundTrips(peer: string, count: number): Promise<number[]> {
    const times: number[] = [];
    const frame = Buffer.alloc(100, KINDS.ask);
    for (let index = 0; index < count; index += 1) {
      const sentAt = sharedMs();
      const answered = new Promise<void>((resolve) => (this.#onAnswer = resolve));
      if (!this.#channel.send(peer, frame)) throw new Error("not sent");
      await answered;
      times.push(sharedMs() - sentAt);
    }
    return times.sort((a, b) => a - b);
  }

  async pour(peer: string, bytes: number): Promise<number> {
    const startedAt = sharedMs();
    const frame = Buffer.alloc(POURED_BYTES, KINDS.pour);
    const last = Buffer.alloc(POURED_BYTES, KINDS.last);
    const answered = new Promise<void>((resolve) => (this.#onAnswer = resolve));
    for (let left = bytes; left > 0; left -= POURED_BYTES) {
      while (!this.#channel.send(peer, left > POURED_BYTES ? frame : last)) await turn();
    }
    await answered;
    return sharedMs() - startedAt;
  }

  beat(peer: string): boolean {
    this.#answeredAt = sharedMs();
    this.#longestMs = 0;
    this.beats = 0;
    this.#onAnswer = () => {
      this.beats += 1;
      this.#longestMs = Math.max(this.#longestMs, sharedMs() - this.#answeredAt);
      this.#answeredAt = sharedMs();
    };
    const frame = Buffer.of(KINDS.ask);
    this.#beating = setInterval(() => this.#channel.send(peer, frame), BEAT_MS);
    return true;
  }

  hush(): number {
    clearInterval(this.#beating);
    return this.#longestMs;
  }

  #received(peer: string, frame: Uint8Array): void {
    const [kind] = frame;
    if (kind === KINDS.answer) this.#onAnswer();
    else if (kind === KINDS.ask || kind === KINDS.last) this.#channel.send(peer, Buffer.of(KINDS.answer));
  }
}
