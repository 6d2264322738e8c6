import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { createServer } from "node:net";
import type { AddressInfo, Server } from "node:net";
import { silentLogger } from "@klatsch/kit";
import type { Logger } from "@klatsch/kit";
import { describe, expect, it } from "vitest";
import { Bed, full, next, until } from "./helpers.ts";

/** Peer id of nobody here. */
const NOBODY = "12D3KooWE6QSjPpFUsKa36zasGH3TYZDQbWAX56nEUWzXKrZn4A5";

/** Reasons by bootstrap address, as a logger is told. */
class Warnings {
  readonly told = new Map<unknown, unknown>();
  #count = 0;
  readonly count = (): number => this.#count;
  readonly logger: Logger = {
    ...silentLogger,
    warn: (message, fields) => {
      if (!message.startsWith("a bootstrap address")) return;
      this.#count += 1;
      this.told.set(fields?.["address"], fields?.["reason"]);
    },
  };
}

async function listening(bed: Bed, server: Server): Promise<string> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  bed.onEnd(() => void server.close());
  return `/ip4/127.0.0.1/tcp/${(server.address() as AddressInfo).port}/p2p/${NOBODY}`;
}

describe("a bootstrap address that does not work", () => {
  it("is logged with the reason, each once", async () => {
    await using bed = new Bed();
    const a = await bed.mesh("a");
    const held = createServer((socket) => bed.onEnd(() => void socket.destroy()));
    const wrongId = `${a.addresses()[0]?.split("/p2p/")[0]}/p2p/${NOBODY}`;
    const http = await listening(bed, createHttpServer());
    const mute = await listening(bed, held);
    const unknown = `/dns4/nowhere.invalid/tcp/1/p2p/${NOBODY}`;
    const { told, count, logger } = new Warnings();
    const b = await bed.mesh("b", { logger, bootstrap: [wrongId, http, mute, unknown] });
    await until([b], () => told.size >= 4 && b.stats().dialsFailed > 1);
    expect(count()).toBe(4);
    expect(told.get(wrongId)).toBe(`another peer answers there: ${a.peerId}`);
    expect(told.get(http)).toMatch(/^no member answers there: /);
    expect(told.get(mute)).toBe("no answer in time");
    expect(told.get(unknown)).toMatch(/ENOTFOUND|EAI_AGAIN|no answer in time/); // As the resolver likes.
  });

  it("is not logged of a member that is down while others are there, nor at the end", async () => {
    await using bed = new Bed();
    const [a, c] = [await bed.mesh("a"), await bed.mesh("c")];
    const { count, logger } = new Warnings();
    const b = await bed.mesh("b", { logger, bootstrap: [...a.addresses(), ...c.addresses()] });
    await full(a, b, c);
    const stopped = next(b, "member:stopped");
    await a.stop();
    await stopped;
    await until([b], () => b.stats().dialsFailed > 0);
    expect(count()).toBe(0);
    const mute = await listening(
      bed,
      createServer((socket) => bed.onEnd(() => void socket.destroy())),
    );
    const d = await bed.mesh("d", { logger, bootstrap: [mute] });
    await d.stop();
    expect(count()).toBe(0);
  });
});
