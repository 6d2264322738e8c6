import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readFile, rm, stat, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Client } from "../src/client.ts";
import { LINE_BYTES_MAX } from "../src/protocol.ts";
import type { Answer } from "../src/protocol.ts";
import { launch, Nodes, run, runInto, until } from "./nodes.ts";
import type { NodeProcess } from "./nodes.ts";

let nodes: Nodes;
let a: NodeProcess;
let b: NodeProcess;
let c: NodeProcess;

beforeAll(async () => {
  nodes = await Nodes.create();
  a = nodes.start("a");
  const bootstrap = await a.up();
  b = nodes.start("b", bootstrap);
  c = nodes.start("c", bootstrap);
  await Promise.all([b.up(), c.up()]);
  await Nodes.meet(a, b, c);
});

afterAll(() => nodes[Symbol.asyncDispose]());

/** Writes `bytes` to the socket of a node and gives what it answers until it hangs up. */
async function answersTo(node: NodeProcess, bytes: Uint8Array): Promise<Answer[]> {
  const socket = connect(node.socket);
  let text = "";
  socket.on("data", (data) => (text += data.toString()));
  socket.on("error", () => undefined); // It may hang up while we write.
  socket.end(bytes);
  await once(socket, "close");
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Answer);
}

describe("klatsch", () => {
  it("shows all members as a table", async () => {
    const { stdout, code } = await run(["members", "--data", b.dataDir]);
    expect(code).toBe(0);
    const [heading, ...rows] = stdout.trimEnd().split("\n");
    expect(heading?.split(/\s+/)).toEqual(
      "NAME STATUS EVIDENCE CLOUD BOOT INCARNATION LINKED ADDRESS".split(" "),
    );
    expect(rows.map((row) => row.split(/\s+/).slice(0, 2))).toEqual([
      ["a", "alive"],
      ["b", "alive"],
      ["c", "alive"],
    ]);
  });

  it("tells its version", async () => {
    const { stdout, code } = await run(["--version"]);
    expect([code, stdout]).toEqual([0, expect.stringMatching(/^\d+\.\d+\.\d+\n$/)]);
  });

  it.runIf(existsSync("/dev/full"))("has failed if its output is lost, and said why", async () => {
    const at = ["--data", a.dataDir];
    const put = ["queue", "put", "lost", "text"];
    for (const args of [["members"], ["members", "--json"], ["metrics"], put, ["queue", "take", "lost"]]) {
      const told = await runInto("/dev/full", [...args, ...at]);
      expect({ args, ...told }).toEqual({
        args,
        code: 1,
        stderr: expect.stringMatching(/^klatsch: ENOSPC.*\n$/),
      });
    }
    expect((await run(["queue", "take", "lost", ...at])).stdout).toBe("text");
  });

  it("is quiet if nobody reads on", async () => {
    const metrics = launch("metrics", "--data", a.dataDir);
    metrics.stdout.destroy();
    let stderr = "";
    metrics.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
    expect([await once(metrics, "close"), stderr]).toEqual([[0, null], ""]);
  });

  it("is not watched for those who read no further", async () => {
    const members = launch("members", "--watch", "--data", a.dataDir);
    members.stdout.destroy();
    expect(await once(members, "close")).toEqual([0, null]);

    const states = launch("state", "watch", "noise", "--data", a.dataDir);
    states.stdout.destroy();
    let ended: readonly unknown[] = [];
    void once(states, "close").then((how) => (ended = how));
    await a.ask((client) =>
      until("the watch has ended", async () => {
        await client.call("state.set", { key: "noise", value: Math.random() });
        return ended.length > 0;
      }),
    );
    expect(ended).toEqual([0, null]);
    await a.ask(async (client) => await client.call("state.delete", { key: "noise" }));
  });

  it("changes its tags while it runs, for all to see", async () => {
    const tags = async (...args: string[]): Promise<unknown> =>
      await run(["tags", ...args, "--data", b.dataDir]);
    expect(await tags("role=web", "disk=fast")).toMatchObject({ code: 0, stdout: "role=web\ndisk=fast\n" });
    expect(await tags("role=db", "--delete", "disk")).toMatchObject({ code: 0, stdout: "role=db\n" });
    await a.ask((client) =>
      until("a sees the tags of b", async () => {
        const seen = (await client.call("members", {})).find(({ name }) => name === "b");
        return JSON.stringify(seen?.tags) === '{"role":"db"}' && seen?.status === "alive";
      }),
    );
    expect(await tags("role")).toMatchObject({ code: 2, stderr: expect.stringContaining("key=value") });
    expect(await tags(`role=${"x".repeat(300)}`)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("tags.role"),
    });
    expect(await tags()).toMatchObject({ code: 0, stdout: "role=db\n" });
  });

  it("traces the way to a member", async () => {
    const { stdout, code } = await run(["trace", "c", "--data", a.dataDir]);
    expect(code).toBe(0);
    const [heading, ...rows] = stdout.trimEnd().split("\n");
    expect(heading?.split(/\s{2,}/)).toEqual(["CLASS", "HOP", "MEMBER", "ROUND TRIP"]);
    expect(rows.map((row) => row.split(/\s+/).slice(0, 3))).toEqual([
      ["high", "1", "c"],
      ["normal", "1", "c"],
      ["bulk", "1", "c"],
    ]);
    expect(await run(["trace", "a", "--data", a.dataDir])).toMatchObject({
      code: 0,
      stdout: "a is this node\n",
    });
    expect(await run(["trace", "nobody", "--data", a.dataDir])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("UNKNOWN_NAME"),
    });
  });

  it("calls, casts and gathers", async () => {
    const asked = async (...args: string[]): Promise<string> => {
      const { code, stdout, stderr } = await run([...args, "--data", a.dataDir]);
      expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
      return stdout.trimEnd();
    };
    const [info, offered, cast, count] = await Promise.all([
      asked("call", "b", "klatsch.node.info"),
      asked("methods", "c"),
      asked("cast", "name=b | name=c", "klatsch.node.ping"),
      asked("gather", "all", "klatsch.node.ping", "--reduce", "count"),
    ]);
    expect(JSON.parse(info)).toMatchObject({ name: "b" });
    const names = ["klatsch.node.ping", "klatsch.node.uptime"];
    expect(offered.split("\n")).toEqual(expect.arrayContaining(names));
    expect([cast.split("\n").length, count]).toEqual([2, "3"]);
    const folded: unknown = JSON.parse(
      await asked("gather", "all", "klatsch.node.info", "--reduce", "set", "--of", "name", "--json"),
    );
    expect(folded).toMatchObject({ value: ["a", "b", "c"], failed: [], missing: [] });
    const nobody = ["gather", "name=b", "klatsch.node.info", "--reduce", "max", "--of", "nothing"];
    expect(await run([...nobody, "--data", a.dataDir])).toMatchObject({ code: 1, stdout: "" });
    const wrong = await run(["call", "b", "klatsch.node.pong", "--data", a.dataDir]);
    expect([wrong.code, wrong.stderr]).toEqual([
      1,
      expect.stringContaining("did you mean klatsch.node.ping?"),
    ]);
    expect((await run(["cast", "role=", "x", "--data", a.dataDir])).code).toBe(2);
  });

  it("shows the node's numbers for Prometheus", async () => {
    const { stdout, code } = await run(["metrics", "--data", b.dataDir]);
    expect(stdout).toContain("klatsch_queue_lanes");
    expect(code).toBe(0);
    expect(stdout).toContain('\nklatsch_mesh_members{status="alive"} 3\n');
    expect(stdout).toContain("\nklatsch_rpc_sessions 6\n");
  });

  it("puts a file and takes it into another one, and refuses what cannot be", async () => {
    const [from, to] = [join(a.dataDir, "from.bin"), join(b.dataDir, "to.bin")];
    await writeFile(from, Buffer.alloc(200_000, 7));
    expect(await run(["queue", "put", "files", "--file", from, "--data", a.dataDir])).toMatchObject({
      code: 0,
    });
    expect(await run(["queue", "take", "files", "--out", to, "--data", b.dataDir])).toMatchObject({
      code: 0,
      stdout: "",
    });
    expect((await readFile(to)).equals(await readFile(from))).toBe(true);
    const wrong = [
      ["put", "files", "text", "--file", from],
      ["put", "files", "--file", `${from}.missing`],
      ["take", "files", "--out", join(b.dataDir, "no", "such", "directory")],
      ["put", "no spaces", "text"],
      ["put", "files", "text", "--replicas", "2"],
      ["put", "files", "text", "--body-bytes-max", "99999999"],
      ["declare", "files", "--lease-ms", "-1"],
    ];
    for (const args of wrong) {
      const { code, stderr } = await run(["queue", ...args, "--data", a.dataDir]);
      expect({ args, code, isTold: /^(klatsch: .+ \([A-Z_]+\)|error: .+)/.test(stderr) }).toEqual({
        args,
        code: 2,
        isTold: true,
      });
    }
    const take = ["queue", "take", "files", "--timeout-ms", "50", "--out", to, "--data"];
    const empty = await run([...take, a.dataDir]);
    expect(empty).toMatchObject({ code: 1, stderr: expect.stringContaining("TIMED_OUT") });
    const nobody = await run([...take, nodes.directory]);
    expect(nobody).toMatchObject({ code: 1, stderr: expect.stringContaining("NOT_RUNNING") });
    expect((await readFile(to)).equals(await readFile(from))).toBe(true);
  });

  it("puts on one node and takes on another", async () => {
    const put = await run(["queue", "put", "jobs", "wash the cups", "--data", a.dataDir]);
    expect(put).toMatchObject({ code: 0, stderr: "" });
    expect(await run(["queue", "take", "jobs", "--data", b.dataDir])).toMatchObject({
      code: 0,
      stdout: "wash the cups",
    });
    const id = put.stdout.trim();
    await c.ask(async (client) => {
      expect(await client.call("queue.resolve", { id })).toEqual({ resolution: "ACKED" });
    });
  });

  it("puts what standard input has, and puts back what is not acknowledged", async () => {
    const flags = ["--replicas", "1", "--data", c.dataDir];
    await run(["queue", "put", "piped", ...flags], "line\n");
    const first = await run(["queue", "take", "piped", "--no-ack", "--data", c.dataDir]);
    expect(first).toMatchObject({ code: 0, stdout: "line\n" });
    const again = await c.ask(async (client) => {
      const { hold, body } = await client.call("queue.take", { queue: "piped" });
      await client.call("queue.settle", { hold, verdict: "ack" });
      return body;
    });
    expect(Buffer.from(again, "base64").toString()).toBe("line\n");
    const none = await run(["queue", "take", "piped", "--timeout-ms", "1", "--data", c.dataDir]);
    expect(none).toMatchObject({ code: 1, stdout: "", stderr: expect.stringContaining("TIMED_OUT") });
    const conflict = c.ask((client) => client.call("queue.declare", { queue: "piped", replicas: 3 }));
    await expect(conflict).rejects.toMatchObject({ code: "QUEUE_CONFLICT" });
  });

  it("declares a relaxed queue, which says so everywhere", async () => {
    const declared = await run(["queue", "declare", "quick", "--relaxed", "--data", a.dataDir]);
    expect(declared).toMatchObject({ code: 0, stdout: expect.stringMatching(/^quick .* relaxed +0$/m) });
    await run(["queue", "put", "quick", "one", "--data", b.dataDir]);
    expect((await run(["queue", "ls", "--data", c.dataDir])).stdout).toMatch(/^quick .* relaxed /m);
    expect((await run(["queue", "take", "quick", "--data", c.dataDir])).stdout).toBe("one");
  });

  it("puts a message with a key once, and shows what a group waits for", async () => {
    const ordered = ["--groups", "--dedup-ms", "60000", "--group", "g", "--dedup-key", "k"];
    const first = await run(["queue", "put", "ordered", "one", ...ordered, "--data", a.dataDir]);
    expect(first).toMatchObject({ code: 0, stderr: "" });
    const again = await run([
      "queue",
      "put",
      "ordered",
      "--group",
      "g",
      "--dedup-key",
      "k",
      "1",
      "--data",
      b.dataDir,
    ]);
    expect(again).toMatchObject({ code: 0, stdout: first.stdout, stderr: "it was there already\n" });
    const { stdout } = await run(["queue", "groups", "ordered", "--data", c.dataDir]);
    expect(stdout).toMatch(new RegExp(`\ng +1 +ready .*${first.stdout.trim()}`));
    expect((await run(["queue", "browse", "ordered", "--data", c.dataDir])).stdout).toMatch(/ g +k$/m);
    expect((await run(["queue", "take", "ordered", "--data", c.dataDir])).stdout).toBe("one");
  });

  it("puts a message with all that is to be said of it", async () => {
    const said = ["--priority", "3", "--header", "kind=cup", "--header", "note=a=b", "--ttl-ms", "3600000"];
    const at = ["--data", a.dataDir];
    const id = (await run(["queue", "put", "said", ...said, "text", ...at])).stdout.trim();
    const later = { queue: "said", body: "", delayMs: 3_600_000 };
    await a.ask(async (client) => await client.call("queue.put", later));
    const peeked = await run(["queue", "peek", "said", "--json", "--data", b.dataDir]);
    const messages = JSON.parse(peeked.stdout) as readonly { readonly id: string; readonly dueMs: number }[];
    const [first, second] = messages.toSorted((x, y) => x.dueMs - y.dueMs);
    const headers = { kind: "cup", note: "a=b" };
    expect(first).toMatchObject({ id, state: "ready", priority: 3, headers });
    expect(second).toMatchObject({ state: "delayed", priority: 0, headers: {} });
    expect(second?.dueMs).toBeGreaterThan(3_500_000);
    await run(["queue", "put", "said", "short", "--ttl-ms", "1", ...at]);
    await a.ask((client) =>
      until("it is dead", async () => (await client.call("queue.counts", { queue: "said" })).dead === 1),
    );
    const wrong: readonly (readonly [field: string, ...args: string[]])[] = [
      ["priority", "--priority", "10"],
      ["priority", "--priority", "high"],
      ["delay", "--delay-ms", "1.5"],
      ["delay", "--delay-ms", "99999999999"],
      ["ttl", "--ttl-ms", "0"],
      ["header", "--header", "nothing"],
      ["header", "--header", "x=1", "--header", "x=2"],
      ["header", "--header", "__proto__=1"],
      ["header", "--header", `x=${"y".repeat(20_000)}`],
    ];
    for (const [field, ...args] of wrong) {
      const { code, stdout, stderr } = await run(["queue", "put", "unsaid", "x", ...args, ...at]);
      expect([args, code, stdout, stderr.includes(field)]).toEqual([args, 2, "", true]);
    }
    const help = await run(["queue", "put", "--help"]);
    for (const flag of ["--priority", "--delay-ms", "--ttl-ms", "--header"])
      expect(help.stdout).toContain(flag);
  });

  it("shows, halts and empties a queue from a node that never used it", async () => {
    const ids: string[] = [];
    for (const text of ["one", "two"]) {
      ids.push((await run(["queue", "put", "tended", text, "--data", a.dataDir])).stdout.trim());
    }
    const at = ["--data", c.dataDir];
    const peeked = await run(["queue", "peek", "tended", ...at]);
    expect(peeked).toMatchObject({ code: 0, stdout: expect.stringContaining(`${ids[0]}\none\n`) });
    expect((await run(["queue", "count", "tended", ...at])).stdout).toMatch(/ready +2\n/);
    expect((await run(["queue", "browse", "tended", ...at])).stdout).toContain(ids[1]);
    const seen = JSON.parse((await run(["queue", "inspect", ids[0] ?? "", "--json", ...at])).stdout) as {
      replicas: unknown[];
    };
    expect(seen.replicas).toHaveLength(3);
    const altered = await run([
      "queue",
      "alter",
      "tended",
      "--max-length",
      "2",
      "--lease-ms",
      "45000",
      ...at,
    ]);
    expect(altered.stdout).toMatch(/tended +3 +45000 +20 +2 +none/);
    const wrong = await run(["queue", "alter", "tended", "--max-length", "0", ...at]);
    expect(wrong).toMatchObject({ code: 2, stderr: expect.stringContaining("changes.maxLength") });
    const back = await run(["queue", "alter", "tended", "--max-length", "default", ...at]);
    expect(back.stdout).toMatch(/tended +3 +45000 +20 +none +none/);
    await run(["queue", "pause", "tended", ...at]);
    const none = await run(["queue", "take", "tended", "--timeout-ms", "500", ...at]);
    expect(none.stderr).toContain("TIMED_OUT");
    expect((await run(["queue", "purge", "tended", ids[0] ?? "", ...at])).stdout).toBe("1\n");
    await run(["queue", "resume", "tended", ...at]);
    expect((await run(["queue", "take", "tended", ...at])).stdout).toBe("two");
    expect(await run(["queue", "drain", "tended", ...at])).toMatchObject({ code: 0 });
    expect((await run(["queue", "dead", "tended", ...at])).stdout).toContain("HOLDER OR REASON");
    await run(["queue", "put", "tended", "three", "--data", a.dataDir]);
    expect((await run(["queue", "delete", "tended", ...at])).stdout).toBe("1\n");
    expect(await run(["queue", "count", "tended", "--data", b.dataDir])).toMatchObject({ code: 1 });
    expect(await run(["queue", "count", "nowhere", ...at])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("QUEUE_NOT_FOUND"),
    });
  });

  it("lists a queue page by page: one, the next, or all", async () => {
    const ids: string[] = [];
    const message = { queue: "paged", body: "" };
    for (const node of [a, b, c, a, b]) {
      ids.push(await node.ask(async (client) => (await client.call("queue.put", message)).id));
    }
    const idsIn = (text: string): string[] => text.match(/^[0-9a-f]{64}-[0-9]+/gm) ?? [];
    const page = ["queue", "browse", "paged", "--limit", "2"];
    const first = await run([...page, "--data", a.dataDir]);
    const [, next = ""] = /^there is more: --after (\S+), or --all\n$/.exec(first.stderr) ?? [];
    const rest = await run([...page, "--after", next, "--all", "--data", b.dataDir]);
    expect([first.stdout, rest.stdout].map((text) => text.match(/^ID /gm)?.length)).toEqual([1, 1]);
    expect(rest).toMatchObject({ code: 0, stderr: "" });
    expect([...idsIn(first.stdout), ...idsIn(rest.stdout)].toSorted()).toEqual(ids.toSorted());
    const peeked = await run(["queue", "peek", "paged", "--after", next, "--data", c.dataDir]);
    expect(idsIn(peeked.stdout).toSorted()).toEqual(idsIn(rest.stdout).toSorted());
    const wrong = await run([...page, "--after", "x", "--data", a.dataDir]);
    expect(wrong).toMatchObject({ code: 2, stderr: expect.stringContaining("after: is not the `next`") });
    await a.ask(async (client) => await client.call("queue.delete", { queue: "paged" }));
  });

  it("says something on one node and reads it on another, or all write and read it", async () => {
    const quiet = { code: 0, stdout: "", stderr: "" };
    expect(await run(["state", "set", "color", "dark red", "--data", a.dataDir])).toEqual(quiet);
    await b.ask((client) =>
      until("b knows the color of a", async () => {
        const [entry] = await client.call("state.list", { prefix: "color" });
        return entry?.value === "dark red";
      }),
    );
    const got = await run(["state", "get", "color", "--member", "a", "--data", b.dataDir]);
    expect(got).toMatchObject({ code: 0, stdout: "dark red\n" });
    const none = await run(["state", "get", "color", "--data", b.dataDir]);
    expect(none).toMatchObject({ code: 1, stderr: expect.stringContaining("UNKNOWN_KEY") });

    const watch = launch("state", "watch", "limits/", "--shared", "--json", "--data", c.dataDir);
    const lines = createInterface(watch.stdout)[Symbol.asyncIterator]();
    const change = lines.next();
    await c.ask((client) =>
      until("the change is seen", async () => {
        await client.call("state.set", { key: "limits/x", value: { max: Math.random() }, shared: true });
        return await Promise.race([
          change.then(() => true),
          new Promise<false>((resolve) => setTimeout(resolve, 50, false)),
        ]);
      }),
    );
    watch.kill();
    expect(JSON.parse((await change).value as string)).toMatchObject({
      key: "limits/x",
      value: { max: expect.anything() },
    });
    await run(["state", "set", "limits/x", '{"max":2}', "--shared", "--data", a.dataDir]);
    await b.ask((client) =>
      until("b knows the limit", async () => {
        const [entry] = await client.call("state.list", { shared: true });
        return JSON.stringify(entry?.value) === '{"max":2}';
      }),
    );
    const listed = await run(["state", "ls", "--shared", "--data", b.dataDir]);
    expect(listed.stdout.split("\n")[1]?.split(/\s+/)).toEqual(["a", "limits/x", '{"max":2}']);
    expect(await run(["state", "rm", "limits/x", "--shared", "--data", c.dataDir])).toEqual(quiet);
  });

  it("hands a message to the next when its taker goes away", async () => {
    const body = Buffer.from("twice").toString("base64");
    await a.ask((client) => client.call("queue.put", { queue: "left", body }));
    const first = await b.ask((client) => client.call("queue.take", { queue: "left" }));
    const second = await a.ask((client) => client.call("queue.take", { queue: "left" }));
    expect(second.id).toBe(first.id);
    expect(second.epoch).toBeGreaterThan(first.epoch);
  });
});

describe("a node's socket", () => {
  it("is for its user only", async () => {
    expect((await stat(a.socket)).mode & 0o777).toBe(0o600);
  });

  it("answers bad input with an error, in place, and goes on", async () => {
    const lines = [
      "no JSON",
      "[]",
      '{"id":-1,"op":"status"}',
      '{"id":1}',
      '{"id":2,"op":"constructor"}',
      '{"id":3,"op":"queue.put","args":{"queue":"jobs","body":"%%"}}',
      '{"id":4,"op":"queue.put","args":{"queue":7,"body":""}}',
      '{"id":5,"op":"queue.settle","args":{"hold":1,"verdict":"ack"}}',
      '{"id":6,"op":"members","args":{"extra":1}}',
      '{"id":7,"op":"status"}',
    ];
    const answers = await answersTo(a, Buffer.from(`${lines.join("\n")}\n`));
    const errors = new Map(answers.map(({ id, error }) => [id, error]));
    expect(answers).toHaveLength(lines.length);
    expect(answers.filter(({ error }) => error?.code === "BAD_REQUEST")).toHaveLength(lines.length - 1);
    expect(errors.get(4)?.message).toBe("queue: must be text");
    expect(errors.get(6)?.message).toContain("extra");
    expect(errors.get(7)).toBeUndefined();
  });

  it("survives random bytes and endless lines", async () => {
    const before = await a.ask((client) => client.call("status", {}));
    for (let round = 0; round < 20; round += 1) {
      const bytes = Buffer.concat([randomBytes(5_000), Buffer.from("\n")]);
      for (const answer of await answersTo(a, bytes)) expect(answer.error?.code).toBe("BAD_REQUEST");
    }
    const long = await answersTo(a, Buffer.alloc(LINE_BYTES_MAX + 1, "x"));
    for (const { error } of long) expect(error?.code).toBe("LIMIT_REACHED");
    expect(await a.ask((client) => client.call("status", {}))).toEqual(before);
  });
});

describe("klatsch up", () => {
  it("leaves a node alone that runs there already", async () => {
    const second = await run(["up", "--name", "a", "--data", a.dataDir]);
    expect(second).toMatchObject({ code: 1, stderr: expect.stringContaining("ALREADY_RUNNING") });
    const elsewhere = ["--socket", `${a.dataDir}.sock`];
    const third = await run(["up", "--name", "a", "--data", a.dataDir, ...elsewhere]);
    expect(third).toMatchObject({ code: 1, stderr: expect.stringContaining("STORE_LOCKED") });
    expect((await a.ask((client) => client.call("members", {}))).length).toBe(3);
  });

  it("says that there is no directory for its socket, rather than that it may not", async () => {
    const nowhere = join(a.dataDir, "nowhere", "klatsch.sock");
    const { code, stderr } = await run([
      "up",
      "--name",
      "z",
      "--data",
      `${a.dataDir}-z`,
      "--socket",
      nowhere,
    ]);
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: expect.stringMatching(/^klatsch: socket: .*ENOENT/),
    });
  });

  it("says so if it has no address", async () => {
    const file = `${nodes.directory}/deaf.json`;
    await writeFile(file, JSON.stringify({ name: "deaf", data: `${nodes.directory}/deaf`, listen: [] }));
    const deaf = launch("up", "--config", file);
    let stdout = "";
    deaf.stdout.on("data", (data: Buffer) => (stdout += data.toString()));
    await until("it is up", async () => stdout.includes("commands by"));
    deaf.kill("SIGKILL");
    expect(stdout).toMatch(/^deaf is up, boot \d+; no address: nobody can dial it\ncommands by/);
  });

  it("joins the mesh of whoever dials it, if it is to join any", async () => {
    const file = `${nodes.directory}/any.json`;
    await writeFile(file, JSON.stringify({ name: "any", data: `${nodes.directory}/any`, joinAny: true }));
    const waits = launch("up", "--config", file);
    try {
      let stdout = "";
      waits.stdout.on("data", (data: Buffer) => (stdout += data.toString()));
      await until("it waits", async () => stdout.includes("/p2p/"));
      const member = nodes.start("member", stdout.match(/\/ip4\/\S+/gu) ?? [], "--mesh", "cups");
      await member.up();
      await until("both are members", async () => {
        const members = await member.ask((client) => client.call("members", {}));
        return members.some(({ name, linked }) => name === "any" && linked);
      });
      await member.signal("SIGKILL");
    } finally {
      waits.kill("SIGKILL");
    }
  });

  it.each<[string, NodeJS.Signals, readonly string[], (early: NodeProcess) => boolean]>([
    ["begins", "SIGTERM", [], ({ socket }) => existsSync(socket)],
    ["starts its mesh", "SIGINT", [], ({ dataDir }) => existsSync(join(dataDir, "boot"))],
    ["waits for a mesh", "SIGHUP", ["--join-any"], ({ stdout }) => stdout.includes("/p2p/")],
  ])("ends in order when told to while it %s", async (when, signal, flags, isThere) => {
    const early = nodes.start("early", [], ...flags);
    await until(`it ${when}`, () => Promise.resolve(isThere(early)));
    expect(await early.signal(signal)).toBe(0);
    expect(early.stderr).not.toMatch(/Error|^ +at /m);
    await expect(stat(early.socket)).rejects.toThrow("ENOENT");
    await rm(early.dataDir, { recursive: true });
  });

  it("keeps what was shared when its process is killed the moment after", async () => {
    let alone = nodes.start("alone");
    await alone.up();
    await run(["state", "set", "limits/y", '{"max":3}', "--shared", "--data", alone.dataDir]);
    await alone.signal("SIGKILL");
    alone = nodes.start("alone");
    await alone.up();
    const got = await run(["state", "get", "limits/y", "--shared", "--data", alone.dataDir]);
    expect(got).toMatchObject({ code: 0, stdout: '{"max":3}\n' });
    await alone.signal("SIGKILL");
  });

  it("shows a killed node as dead, and alive once it is up again where its socket was left", async () => {
    const watch = launch("members", "--watch", "--json", "--data", b.dataDir);
    const lines = createInterface(watch.stdout)[Symbol.asyncIterator]();
    expect(JSON.parse((await lines.next()).value as string)).toMatchObject({ members: { length: 3 } });
    await c.signal("SIGKILL");
    const change: unknown = JSON.parse((await lines.next()).value as string);
    expect(change).toMatchObject({ member: { name: "c" } });
    await using client = await Client.connect(a.socket);
    const statusOfC = async (): Promise<string | undefined> =>
      (await client.call("members", {})).find(({ name }) => name === "c")?.status;
    await until("a sees c dead", async () => (await statusOfC()) === "dead");
    const table = await run(["members", "--data", a.dataDir]);
    expect(table.stdout).toMatch(/^c +dead /m);

    c = nodes.start("c", await a.up());
    await c.up();
    await until("a sees c alive", async () => (await statusOfC()) === "alive");
    watch.kill();
  });

  it("is not waited for while it is stopped by a debugger", async () => {
    const alone = nodes.start("frozen");
    await alone.up();
    const thaw = alone.freeze();
    await using client = await Client.connect(alone.socket, 300);
    const silent = client.call("members", {});
    await expect(silent).rejects.toMatchObject({ code: "SILENT", outcome: "unknown" });
    thaw();
    expect((await run(["members", "--data", alone.dataDir])).code).toBe(0);
    expect(await alone.signal("SIGHUP")).toBe(0); // As a terminal that is closed ends it.
  });

  it("stops in order: by command, for good, and by a signal", async () => {
    expect(await run(["stop", "--data", c.dataDir])).toMatchObject({ code: 0, stdout: "c has stopped\n" });
    expect(await c.exitCode()).toBe(0);
    await expect(stat(c.socket)).rejects.toThrow("ENOENT");
    expect((await run(["leave", "--data", b.dataDir])).stdout).toBe("b has left for good\n");
    expect(await b.exitCode()).toBe(0);
    await a.ask((client) =>
      until("a sees both go", async () => {
        const members = await client.call("members", {});
        const statuses = members.map(({ name, status }) => `${name} ${status}`);
        return ["b left", "c stopped"].every((status) => statuses.includes(status));
      }),
    );
    expect(await a.signal("SIGTERM")).toBe(0);
    const after = await run(["members", "--data", a.dataDir]);
    expect(after).toMatchObject({ code: 1, stderr: expect.stringContaining("NOT_RUNNING") });
  });
});
