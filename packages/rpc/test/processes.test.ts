import { createMesh } from "@klatsch/mesh";
import type { Mesh } from "@klatsch/mesh";
import { contract, createRpc, method, RpcError } from "@klatsch/rpc";
import type { Rpc } from "@klatsch/rpc";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { z } from "zod";

import { Process, work } from "./support/members.ts";
import { until as untilMs } from "./support/nodes.ts";

const LONG_MS = 120_000;
/** Processes take their time to start, and members to be sure that another is gone. */
const until = async (what: string, condition: () => boolean): Promise<void> =>
  await untilMs(what, condition, LONG_MS / 2);
const text = z.string();
const open = { input: text, output: text, access: "members" } as const;
const api = contract({
  name: "api",
  methods: {
    echo: method({ ...open, idempotent: true }),
    plain: method(open),
    safe: method({ ...open, idempotent: true }),
    ticks: method({ ...open, stream: "output" }),
    gather: method({ ...open, stream: "input" }),
  },
});

async function fate(work: () => unknown): Promise<unknown> {
  try {
    return await work();
  } catch (error) {
    return error instanceof RpcError ? `${error.code} ${error.outcome}` : `no RpcError: ${String(error)}`;
  }
}

/** A directory that is gone at the end, and a way to make members in this process. */
async function here() {
  const directory = await mkdtemp(join(tmpdir(), "klatsch-processes-"));
  const ends = new AsyncDisposableStack();
  ends.defer(async () => await rm(directory, { recursive: true, force: true }));
  const add = async (
    name: string,
    bootstrap: readonly string[],
    neighbours?: readonly string[],
  ): Promise<{ mesh: Mesh; rpc: Rpc; id: string }> => {
    const mayLink = (peer: { name: string }): boolean => neighbours?.includes(peer.name) ?? true;
    const mesh = await createMesh({ name, bootstrap, dataDir: join(directory, name), mayLink });
    const rpc = createRpc({ mesh });
    ends.defer(async () => {
      await rpc.stop({ timeoutMs: 0 });
      await mesh.stop();
    });
    return { mesh, rpc, id: mesh.peerId };
  };
  return { directory, ends, add };
}

describe("a process that is killed between doing and answering", { timeout: LONG_MS }, () => {
  it("has its work done again by nobody but who may, whatever the key", async () => {
    const { directory, ends, add } = await here();
    await using _ = ends;
    const { mesh, rpc } = await add("a", []);
    const b = new Process("b", directory);
    ends.use(b);
    await b.start(mesh.addresses());
    await until("they are linked", () => rpc.stats().links === 3);
    const client = rpc.peer(b.id, work);
    const mute = `mute ${b.boot}`;
    const options = { deadlineMs: LONG_MS };
    const plain = fate(() => client.plain(`${mute} plain`, options));
    const keyed = fate(() => client.plain(`${mute} keyed`, { ...options, idempotencyKey: "k" }));
    const safe = fate(() => client.safe(`${mute} safe`, options));
    await until("all is done", () => b.done.length === 3);
    await b.kill();
    expect(await plain).toBe("UNAVAILABLE unknown");
    await b.start(mesh.addresses());
    expect(await keyed).toBe("UNAVAILABLE unknown");
    // It is asked for again, unless the process was away for so long that others took it for gone.
    expect(["UNAVAILABLE unknown", `${mute} safe`]).toContain(await safe);
    await until("they are linked again", () => rpc.stats().links === 3);
    const again = await client.plain("again", { ...options, idempotencyKey: "k" });
    expect(again).toBe("again"); // Keys are as old as the process.
    const journal = await b.journal();
    expect(journal.filter((what) => !what.endsWith(" safe")).toSorted()).toEqual(
      ["again", `${mute} keyed`, `${mute} plain`].toSorted(),
    );
    expect(rpc.stats().pending).toBe(0);
  });
});

/** `a` and `d` in this process, without a link; `b` and `c` between them are processes. */
async function square() {
  const { directory, ends, add } = await here();
  const relays = [new Process("b", directory, ["a", "d"]), new Process("c", directory, ["a", "d"])];
  const a = await add("a", [], ["b", "c"]);
  for (const relay of relays) {
    ends.use(relay);
    await relay.start(a.mesh.addresses());
  }
  const d = await add(
    "d",
    relays.flatMap(({ addresses }) => [...addresses]),
    ["b", "c"],
  );
  let runs = 0;
  const held = Promise.withResolvers<void>();
  const hold = async (input: string): Promise<string> => {
    runs += 1;
    await held.promise;
    return input;
  };
  d.rpc.serve(api, {
    echo: (input) => input,
    plain: hold,
    safe: hold,
    ticks: async function* (input) {
      yield input;
      await held.promise;
      yield input;
    },
    gather: async (items) => {
      for await (const _ of items) runs += 1;
      return "all";
    },
  });
  await until("both have both links", () =>
    [a, d].every(({ mesh }) => mesh.members().filter(({ linked }) => linked).length === 2),
  );
  await until("each knows the other", () =>
    [a.mesh.member(d.id), d.mesh.member(a.id)].every((member) => member?.status === "alive"),
  );
  const paths: string[] = [];
  a.mesh.on("tunnel:up", ({ path }) => paths.push(path[1] ?? ""));
  /** The one that a's calls to d pass. */
  const used = (): Process => relays.find(({ id }) => id === paths.at(-1)) ?? expect.unreachable();
  return { a, d, ends, held, used, paths, runs: () => runs };
}

describe("a relay between caller and handler", { timeout: LONG_MS }, () => {
  it("that is killed ends what may have run, and has the rest take another way", async () => {
    const { a, d, ends, held, used, paths, runs } = await square();
    await using _ = ends;
    const client = a.rpc.peer(d.id, api);
    const options = { deadlineMs: LONG_MS };
    const [plain, safe] = [fate(() => client.plain("1", options)), fate(() => client.safe("2", options))];
    const keyed = fate(() => client.plain("3", { ...options, idempotencyKey: "k" }));
    const items = client.ticks("4")[Symbol.asyncIterator]();
    expect(await items.next()).toEqual({ done: false, value: "4" });
    const never = async function* (): AsyncGenerator<string> {
      yield "5";
      await held.promise;
    };
    const upload = fate(() => client.gather(never()));
    await until("all run", () => runs() === 4);
    await used().kill();
    expect(await plain).toBe("UNAVAILABLE unknown");
    expect(await fate(async () => await items.next())).toBe("UNAVAILABLE unknown");
    expect(await upload).toBe("UNAVAILABLE unknown");
    await until("the idempotent one runs again", () => runs() === 5);
    held.resolve();
    // The keyed one was asked for again, and had not to run again: its process is the same.
    expect(await Promise.all([safe, keyed])).toEqual(["2", "3"]);
    expect([runs(), new Set(paths).size]).toEqual([5, 2]);
    await until("nothing is left", () => a.rpc.stats().pending + d.rpc.stats().running === 0);
  });

  it("that is paused is left for another way, and harms nothing when it goes on", async () => {
    const { a, d, ends, held, used, paths } = await square();
    await using _ = ends;
    const client = a.rpc.peer(d.id, api);
    expect(await client.echo("x")).toBe("x");
    const items = client.ticks("y")[Symbol.asyncIterator]();
    await items.next();
    const paused = used();
    paused.signal("SIGSTOP");
    expect(await client.echo("z", { deadlineMs: LONG_MS })).toBe("z");
    expect(new Set(paths).size).toBe(2);
    expect(await fate(async () => await items.next())).toBe("UNAVAILABLE unknown");
    paused.signal("SIGCONT");
    held.resolve();
    await until("it is back", () => a.mesh.member(paused.id)?.status === "alive");
    for (let no = 0; no < 50; no += 1) expect(await client.echo(String(no))).toBe(String(no));
    await until("nothing is left", () => a.rpc.stats().pending + d.rpc.stats().running === 0);
  });
});
