import { contract, method } from "@klatsch/rpc";
import { describe, expect, it } from "vitest";
import { z } from "zod";

import { Nodes, until } from "./support/nodes.ts";

const number = z.number();
const api = contract({
  methods: {
    count: method({ input: number, output: number, access: "members", stream: "output" }),
    sum: method({ input: number, output: number, access: "members", stream: "input" }),
    double: method({ input: number, output: number, access: "members", stream: "both" }),
    blocks: method({ input: number, output: z.instanceof(Uint8Array), access: "members", stream: "output" }),
    mebibytes: method({
      input: z.instanceof(Uint8Array),
      output: z.instanceof(Uint8Array),
      access: "members",
      stream: "both",
    }),
  },
});

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}

/** What the server's side of each stream has come to. */
class Server {
  given = 0;
  ended = 0;
  async *count(to: number): AsyncGenerator<number> {
    try {
      for (let no = 0; no < to; no += 1) {
        this.given += 1;
        yield no;
      }
    } finally {
      this.ended += 1;
    }
  }
  async sum(source: AsyncIterable<number>): Promise<number> {
    let total = 0;
    for await (const item of source) {
      total += item;
      if (total < 0) throw new Error("negative");
    }
    return total;
  }
  async *double(source: AsyncIterable<number>): AsyncGenerator<number> {
    for await (const item of source) yield item * 2;
  }
  *blocks(count: number): Generator<Uint8Array<ArrayBuffer>> {
    for (let no = 0; no < count; no += 1) yield new Uint8Array(100_000).fill(no);
  }
  async *mebibytes(source: AsyncIterable<Uint8Array<ArrayBuffer>>): AsyncGenerator<Uint8Array<ArrayBuffer>> {
    for await (const block of source) {
      this.given += 1;
      yield block;
    }
  }
}

const MEBIBYTE = new Uint8Array(1_048_576);

async function pair() {
  const nodes = await Nodes.start("a", "b");
  const server = new Server();
  nodes.get("b").rpc.serve(api, server);
  const client = nodes.get("a").rpc.peer(nodes.get("b").id, api);
  const idle = async (): Promise<void> =>
    await until("both sides are idle", () =>
      nodes.all().every(({ rpc }) => rpc.stats().pending + rpc.stats().running === 0),
    );
  return { nodes, server, client, idle };
}

describe("a stream", () => {
  it("comes whole and in order, from the server, to it, and both ways", async () => {
    const { nodes, client, idle } = await pair();
    await using _ = nodes;
    const wanted = Array.from({ length: 1_000 }, (_, no) => no);
    expect(await all(client.count(1_000))).toEqual(wanted);
    expect(await client.sum(wanted)).toBe(499_500);
    expect(await all(client.double(wanted))).toEqual(wanted.map((no) => no * 2));
    const sizes: number[] = [];
    for await (const block of client.blocks(40)) sizes.push(block[99_999] ?? -1);
    expect(sizes).toEqual(wanted.slice(0, 40));
    await idle();
  });

  it("stops its writer when the reader stops, and never runs ahead of the reader's credit", async () => {
    const { nodes, client, server, idle } = await pair();
    await using _ = nodes;
    for await (const item of client.count(1_000_000)) {
      if (item === 0) {
        await client.sum([1]); // The writer had every chance to run ahead.
        await client.sum([1]);
        expect(server.given).toBeLessThanOrEqual(66);
      }
      if (item === 500) break;
    }
    await until("the writer has ended", () => server.ended === 1);
    expect(server.given).toBeLessThan(700);
    await idle();
  });

  it("of large items has few of them under way and unread, each way", async () => {
    const { nodes, client, server, idle } = await pair();
    await using _ = nodes;
    let read = 0;
    function* source(): Generator<Uint8Array<ArrayBuffer>> {
      for (let no = 0; no < 12; no += 1) {
        read += 1;
        yield MEBIBYTE;
      }
    }
    let seen = 0;
    for await (const block of client.mebibytes(source())) {
      seen += 1;
      expect(block.length).toBe(MEBIBYTE.length);
      if (seen % 4 !== 1) continue;
      // Whatever may leave has left by the time that a call was answered.
      await client.sum([1]);
      // Two of them, and the one that the generator waits with.
      expect(server.given - seen).toBeLessThanOrEqual(3);
      expect(read - server.given).toBeLessThanOrEqual(3);
    }
    expect(seen).toBe(12);
    await idle();
  });

  it("ends with the error of either side", async () => {
    const { nodes, client, idle } = await pair();
    await using _ = nodes;
    await expect(client.sum([1, -2, 3])).rejects.toMatchObject({
      code: "HANDLER_FAILED",
      message: "negative",
    });
    await expect(client.sum([1, "2" as never])).rejects.toMatchObject({ code: "INVALID_INPUT" });
    function* broken(): Generator<number> {
      yield 1;
      throw new Error("the source broke");
    }
    await expect(client.sum(broken())).rejects.toThrow("the source broke");
    await expect(all(client.double(broken()))).rejects.toThrow("the source broke");
    await idle();
  });

  it("ends when its caller's signal fires or the peer goes", async () => {
    const { nodes, client, server, idle } = await pair();
    await using _ = nodes;
    const controller = new AbortController();
    const reading = (async () => {
      for await (const item of client.count(1_000_000, { signal: controller.signal })) {
        if (item === 200) controller.abort();
      }
    })();
    await expect(reading).rejects.toMatchObject({ code: "CANCELLED" });
    await until("the writer has ended", () => server.ended === 1);
    await idle();
    const cut = (async () => {
      for await (const item of client.count(1_000_000)) if (item === 200) void nodes.end("b");
    })();
    await expect(cut).rejects.toMatchObject({ code: "UNAVAILABLE", outcome: "unknown" });
  });
});
