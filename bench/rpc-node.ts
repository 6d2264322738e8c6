/** A node of the calls' benchmark: serves, and calls the other. */
import { countBuffersAsHeap } from "@klatsch/kit";
import { createMesh } from "@klatsch/mesh";
import { contract, createRpc, method } from "@klatsch/rpc";
import { z } from "zod";
import { BareEcho } from "./bare-echo.ts";
import { percentile } from "./harness.ts";
import { serve, sharedMs } from "./serve.ts";

const bytes = z.instanceof(Uint8Array);
const bench = contract({
  name: "bench",
  methods: {
    echo: method({ input: bytes, output: bytes, access: "members" }),
    drain: method({ input: bytes, output: z.number(), access: "members", stream: "input", class: "bulk" }),
    note: method({ input: z.number(), output: z.undefined(), access: "members" }),
    heard: method({ input: z.number(), output: z.undefined(), access: "members" }),
    who: method({ input: z.number(), output: z.string(), access: "members" }),
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

interface Setup {
  readonly name: string;
  readonly dataDir: string;
  readonly bootstrap: readonly string[];
  readonly buffersAsHeap: boolean;
}

const commands = {
  start: async ({ buffersAsHeap, ...init }: Setup) => {
    if (buffersAsHeap) countBuffersAsHeap();
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
        const tookMs = sharedMs() - sentMs;
        // The others have still to hear it: reports must not be in their way.
        await new Promise((resolve) => setTimeout(resolve, REPORT_MS));
        await rpc.cast([caller.peerId], bench, "heard", tookMs);
        return undefined;
      },
      who: async (delayMs) => {
        if (delayMs > 0) await new Promise((resolve) => setTimeout(resolve, delayMs));
        return init.name;
      },
      heard: (tookMs) => {
        onHeard(tookMs);
        return undefined;
      },
    });
    return { addresses: mesh.addresses(), peerId: mesh.peerId, pid: process.pid };
  },
  links: async () => await Promise.resolve(node().rpc.stats().links),
  members: async () => {
    const alive = node()
      .mesh.members()
      .filter(({ status }) => status === "alive");
    return await Promise.resolve(alive.length);
  },
  memory: async () => await Promise.resolve(memory()),
  cpuUs: async () => {
    const { user, system } = process.cpuUsage();
    return await Promise.resolve(user + system);
  },
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
    return { ...latencies(tookMs, seconds), cpuUs: (user + system) / tookMs.length };
  },
  /** Where a bare libp2p node in this process echoes. */
  serveEcho: async () => await (echo = await BareEcho.start()).serve(),
  /** One call at a time, in turns with as much bare echo: what the machine does to one, it does to both. */
  compare: async (init: { peer: string; address: string; size: number; seconds: number }) => {
    echo ??= await BareEcho.start();
    const client = await echo.dial(init.address);
    const { echo: ask } = node().rpc.peer(init.peer, bench);
    const input = new Uint8Array(init.size).fill(7);
    const tookMs: { ask: number[]; echo: number[] } = { ask: [], echo: [] };
    const endMs = performance.now() + 2 * init.seconds * 1_000;
    for (let turn = 0; performance.now() < endMs; turn += 1) {
      const [run, all] =
        turn % 2 === 0
          ? ([async () => await ask(input), tookMs.ask] as const)
          : ([async () => await client.echo(input), tookMs.echo] as const);
      for (let at = performance.now(), untilMs = at + TURN_MS; at < untilMs;) {
        await run();
        const now = performance.now();
        all.push(now - at);
        at = now;
      }
    }
    const [asked, echoed] = [tookMs.ask, tookMs.echo].map((all) => all.toSorted((a, b) => a - b));
    return {
      opsPerSecond: tookMs.ask.length / init.seconds,
      p50Ms: percentile(asked ?? [], 50),
      p99Ms: percentile(asked ?? [], 99),
      echoP50Ms: percentile(echoed ?? [], 50),
      echoP99Ms: percentile(echoed ?? [], 99),
    };
  },
  /** Casts to all others, one at a time; latencies until the last of their handlers runs, by the clock that all share. */
  cast: async (init: { targets: number; seconds: number }) => {
    const tookMs: number[] = [];
    const beganMs = performance.now();
    while (performance.now() - beganMs < init.seconds * 1_000) {
      const all = Promise.withResolvers<number>();
      const each: number[] = [];
      onHeard = (one) => {
        if (each.push(one) === init.targets) all.resolve(Math.max(...each));
      };
      await node().rpc.cast("!name=a", bench, "note", sharedMs());
      tookMs.push(await all.promise);
    }
    return { count: tookMs.length, ...latencies(tookMs, init.seconds) };
  },
  /** Asks all members, this one included, again and again. */
  gather: async (init: { members: number; seconds: number }) => {
    const tookMs: number[] = [];
    const beganMs = performance.now();
    while (performance.now() - beganMs < init.seconds * 1_000) {
      const atMs = performance.now();
      const { answered } = await node().rpc.gather("all", bench, "who", 0, { reduce: { by: "count" } });
      tookMs.push(performance.now() - atMs);
      if (answered.length !== init.members) throw new Error(`${answered.length} of ${init.members} answered`);
    }
    return { count: tookMs.length, ...latencies(tookMs, init.seconds) };
  },
  /** One gather whose handlers take so long; names of members by what became of them. */
  account: async (handlerMs: number) => {
    const result = await node().rpc.gather("all", bench, "who", handlerMs, { deadlineMs: 5_000 });
    const names = (all: readonly { readonly name: string }[]): string[] => all.map(({ name }) => name);
    const { answered, failed, missing, value } = result;
    return {
      answered: names(answered),
      failed: names(failed),
      missing: names(missing),
      values: (value as readonly { readonly value: string }[]).map((one) => one.value),
    };
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

/** How long a cast's receivers wait before they tell when they had it, in milliseconds. */
const REPORT_MS = 5;
/** How long each kind is measured before the other has its turn, in milliseconds. */
const TURN_MS = 100;

function latencies(tookMs: readonly number[], seconds: number) {
  const ascending = tookMs.toSorted((a, b) => a - b);
  return {
    opsPerSecond: tookMs.length / seconds,
    p50Ms: percentile(ascending, 50),
    p99Ms: percentile(ascending, 99),
  };
}

let echo: BareEcho | undefined;
let running: { mesh: Awaited<ReturnType<typeof createMesh>>; rpc: ReturnType<typeof createRpc> } | undefined;
let onHeard: (tookMs: number) => void = () => undefined;

function node(): NonNullable<typeof running> {
  if (running === undefined) throw new Error("not started");
  return running;
}

export type RpcCommands = typeof commands;

serve(commands);
