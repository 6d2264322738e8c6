/** A member in a network namespace of its own: answers what its parent asks. */
import { setTimeout as delay } from "node:timers/promises";
import { createMesh } from "@klatsch/mesh";
import type { MeshInit } from "@klatsch/mesh";

/** What a node can be asked. */
export interface Question {
  readonly id: number;
  readonly what: "names" | "reach" | "frames" | "trace";
  /** Peer id of whom it is about. */
  readonly peer: string;
}

export interface Reply {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: string;
}

export interface Started {
  readonly peerId: string;
  readonly addresses: readonly string[];
}

const mesh = await createMesh(JSON.parse(process.argv[2] ?? "{}") as MeshInit);
const got = new Map<string, number>();
const channel = mesh.channel("test", {
  onUp: () => undefined,
  onDown: () => undefined,
  onFrame: (peer, frame) => {
    if (frame[0] === 1) channel.send(peer, Buffer.of(2));
    else got.set(peer, (got.get(peer) ?? 0) + 1);
  },
});

async function answer({ what, peer }: Question): Promise<unknown> {
  switch (what) {
    case "names":
      return mesh
        .members()
        .filter(({ status }) => status === "alive")
        .map(({ name }) => name)
        .toSorted();
    case "reach":
      await mesh.connect(peer, { waitMs: 30_000 });
      while (!channel.peers().includes(peer)) await delay(10);
      return mesh.member(peer)?.linked;
    case "frames": {
      // As many answers as it takes frames; whoever is cut off meanwhile sends again.
      const before = got.get(peer) ?? 0;
      while ((got.get(peer) ?? 0) < before + 20) {
        channel.send(peer, Buffer.of(1));
        await delay(10);
      }
      return got.get(peer);
    }
    case "trace": {
      const traces = await mesh.trace(peer);
      return traces.map(({ class: name, hops, code }) => ({
        class: name,
        hops: hops.map(({ peerId }) => mesh.member(peerId)?.name ?? peerId),
        code,
      }));
    }
  }
}

process.on("message", (message) => {
  const question = message as Question;
  answer(question).then(
    (value) => process.send?.({ id: question.id, value } satisfies Reply),
    (error: unknown) => process.send?.({ id: question.id, error: String(error) } satisfies Reply),
  );
});
process.on("disconnect", () => process.exit(0));
process.send?.({ peerId: mesh.peerId, addresses: mesh.addresses() } satisfies Started);
