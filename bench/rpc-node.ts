/** A node of the calls' benchmark: serves, and calls the other. */
import { createMesh } from "@klatsch/mesh";
import { contract, createRpc, method } from "@klatsch/rpc";
import { z } from "zod";
import { serve, sharedMs } from "./serve.ts";

const bytes = z.instanceof(Uint8Array);
const bench = contract({
  name: "bench",
  methods: {
    echo: method({ input: bytes, output: bytes, access: "members" }),
    drain: method({ input: bytes, output: z.number(), access: "members", stream: "input", class: "bulk" }),
    note: method({ input: z.number(), output: z.undefined(), access: "members" }),
    heard: method({ input: z.number(), output: z.undefined(), access: "members" }),
  },
});

/** Bytes held by this process after a collection, and altogether. */
interface Memory {
  readonly heldBytes: number;
  readonly residentBytes: number;
}

function memory(): Memory {
  globalThis.gc?.();
  const { heapUsed, arrayBuffers, rss } = process.memoryUsage();
  return { heldBytes: heapUsed + arrayBuffers, residentBytes: rss };
}

const commands = {
  start: async (init: { name: string; dataDir: string; bootstrap: readonly string[] }) => {
    const mesh = await createMesh(init);
    const rpc = createRpc({ mesh });
    running = { mesh, rpc };
    rpc.serve(bench, {
      echo: (input) => input,
      drain: async (source) => {
        let total = 0;
        for await (const item of source) total += item.length;
        return total;
      },
      note: async (sentMs, { caller }) => {
        await rpc.cast([caller.peerId], bench, "heard", sharedMs() - sentMs);
        return undefined;
      },
      heard: (tookMs) => {
        onHeard(tookMs);
        return undefined;
      },
    });
    return { addresses: mesh.addresses(), peerId: mesh.peerId };
  },
  links: async () => await Promise.resolve(node().rpc.stats().links),
  memory: async () => await Promise.resolve(memory()),
  /** Calls for so long, so many at once; latencies in milliseconds. */
  ask: async (init: { peer: string; size: number; inFlight: number; seconds: number }) => {
    const { echo } = node().rpc.peer(init.peer, bench);
    const input = new Uint8Array(init.size).fill(7);
    const tookMs: number[] = [];
    const cpuBefore = process.cpuUsage();
    const beganMs = performance.now();
    const endMs = beganMs + init.seconds * 1_000;
    const caller = async (): Promise<void> => {
      for (let at = performance.now(); at < endMs;) {
        await echo(input);
        const now = performance.now();
        tookMs.push(now - at);
        at = now;
      }
    };
    await Promise.all(Array.from({ length: init.inFlight }, caller));
    const seconds = (performance.now() - beganMs) / 1_000;
    const { user, system } = process.cpuUsage(cpuBefore);
    tookMs.sort((a, b) => a - b);
    const at = (percent: number): number =>
      tookMs[Math.ceil((tookMs.length * percent) / 100) - 1] ?? Number.NaN;
    return {
      opsPerSecond: tookMs.length / seconds,
      p50Ms: at(50),
      p99Ms: at(99),
      cpuUs: (user + system) / tookMs.length,
    };
  },
  /** Casts to the other, one at a time; latencies until its handler runs, by the clock that both share. */
  cast: async (init: { peer: string; seconds: number }) => {
    const tookMs: number[] = [];
    const beganMs = performance.now();
    while (performance.now() - beganMs < init.seconds * 1_000) {
      const heard = new Promise<number>((resolve) => (onHeard = resolve));
      await node().rpc.cast(["b"], bench, "note", sharedMs());
      tookMs.push(await heard);
    }
    tookMs.sort((a, b) => a - b);
    const at = (percent: number): number =>
      tookMs[Math.ceil((tookMs.length * percent) / 100) - 1] ?? Number.NaN;
    return { opsPerSecond: tookMs.length / init.seconds, p50Ms: at(50), p99Ms: at(99) };
  },
  /** Sends so many bytes in items of one size; items per second. */
  stream: async (init: { peer: string; size: number; totalBytes: number }) => {
    const before = memory();
    const count = Math.ceil(init.totalBytes / init.size);
    const item = new Uint8Array(init.size).fill(7);
    function* source(): Generator<Uint8Array<ArrayBuffer>> {
      for (let no = 0; no < count; no += 1) yield item;
    }
    const cpuBefore = process.cpuUsage();
    const beganMs = performance.now();
    const total = await node().rpc.peer(init.peer, bench).drain(source());
    const seconds = (performance.now() - beganMs) / 1_000;
    const { user, system } = process.cpuUsage(cpuBefore);
    if (total !== count * init.size) throw new Error(`${total} bytes arrived of ${count * init.size}`);
    const after = memory();
    return {
      opsPerSecond: count / seconds,
      cpuUs: (user + system) / count,
      megabytesPerSecond: total / 1e6 / seconds,
      heldBytes: after.heldBytes - before.heldBytes,
      residentBytes: after.residentBytes - before.residentBytes,
    };
  },
};

let running: { mesh: Awaited<ReturnType<typeof createMesh>>; rpc: ReturnType<typeof createRpc> } | undefined;
let onHeard: (tookMs: number) => void = () => undefined;

function node(): NonNullable<typeof running> {
  if (running === undefined) throw new Error("not started");
  return running;
}

export type RpcCommands = typeof commands;

serve(commands);
