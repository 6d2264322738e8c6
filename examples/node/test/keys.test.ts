import type { ChildProcessWithoutNullStreams } from "node:child_process";
import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { Client } from "../src/client.ts";
import { socketPath } from "../src/config.ts";
import { launch, Nodes, run, until } from "./nodes.ts";

/** A process whose output can be waited for. */
class Running implements AsyncDisposable {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #closed: Promise<[number | null]>;
  text = "";

  constructor(...args: readonly string[]) {
    this.#child = launch(...args);
    this.#closed = once(this.#child, "close") as Promise<[number | null]>;
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream.on("data", (data: Buffer) => (this.text += data.toString()));
  }

  async says(pattern: RegExp): Promise<string> {
    await until(`${String(pattern)} in ${this.text}`, () => Promise.resolve(pattern.test(this.text)));
    return pattern.exec(this.text)?.[1] ?? "";
  }

  async signal(signal: "SIGTERM" | "SIGKILL"): Promise<number | null> {
    this.#child.kill(signal);
    const [code] = await this.#closed;
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.signal("SIGKILL");
  }
}

async function done(...args: readonly string[]): Promise<string> {
  const ended = await run(args);
  expect(ended).toMatchObject({ code: 0, stderr: "" });
  return ended.stdout.trim();
}

const LISTEN = ["--listen", "/ip4/127.0.0.1/tcp/0"] as const;

/** A dozen processes start one after the other. */
const TIMEOUT_MS = 90_000;

describe("keys", { timeout: TIMEOUT_MS }, () => {
  it("make a mesh of a node that was adopted and one that was given a certificate, and revoke that", async () => {
    await using nodes = await Nodes.create();
    const at = (name: string): string => join(nodes.directory, name);
    const authority = ["--authority", at("root")];
    const mesh = /^mesh ([0-9a-f]{64})/.exec(await done("mesh", "create", ...authority))?.[1] ?? "none";

    await using ann = new Running("enrol", "--data", at("ann"), ...LISTEN);
    const code = await ann.says(/code (\S+), for 10 minutes/);
    const address = await ann.says(/ {2}(\/ip4\/\S+)/);
    const adopted = await done("adopt", address, code, ...authority, "--name", "ann", "--tag", "disk=fast");
    expect(adopted).toContain(`a member of mesh ${mesh}`);
    await ann.says(/commands by/);
    const [here = ""] = /\/ip4\/\S+/.exec(await done("addresses", "--data", at("ann"))) ?? [];

    const peer = await done("cert", "peer", "--data", at("bob"));
    const file = at("bob.certificate");
    await writeFile(file, await done("cert", "issue", ...authority, "--peer", peer, "--name", "bob"));
    const shown = JSON.parse(await done("cert", "show", file, "--json")) as object;
    expect(shown).toMatchObject({ peerId: peer, name: "bob", meshId: mesh, issuedBy: "root" });
    await using bob = new Running("up", "--data", at("bob"), "--certificate", file, "--bootstrap", here);
    await bob.says(/commands by/);
    const links = async (): Promise<number> => {
      await using client = await Client.connect(socketPath({ data: at("ann") }));
      return (await client.call("stats", {})).mesh.links;
    };
    await until("ann and bob are linked", async () => (await links()) === 1);

    const told = await done("cert", "revoke", peer, ...authority, "--data", at("ann"));
    expect(told).toBe("the node has it, and tells the others");
    await until("bob is shut out", async () => (await links()) === 0);
    const refused = await run(["cert", "issue", ...authority, "--peer", peer, "--name", "bob"]);
    expect(refused).toMatchObject({ code: 2 });
    expect(refused.stderr).toContain("was revoked");
  });

  it("are waited for until a signal ends that in order", async () => {
    await using nodes = await Nodes.create();
    const data = join(nodes.directory, "fay");
    await using waiting = new Running("enrol", "--data", data, ...LISTEN);
    await waiting.says(/ {2}(\/ip4\/\S+)/);
    expect(await waiting.signal("SIGTERM")).toBe(0);
    expect(waiting.text).not.toMatch(/Error|^ +at /m);
    await using again = new Running("enrol", "--data", data, ...LISTEN);
    await again.says(/code (\S+), for 10 minutes/);
  });

  it("that are missing, or in no file that is named, are a configuration that cannot be", async () => {
    await using nodes = await Nodes.create();
    const data = ["--data", join(nodes.directory, "eve")];
    const file = join(nodes.directory, "text");
    await writeFile(file, "no certificate");
    for (const wrong of [
      ["up", ...data, "--admission", "certificate"],
      ["up", ...data, "--certificate", file],
      ["up", ...data, "--certificate", join(nodes.directory, "none")],
      ["cert", "show", file],
    ])
      expect(await run(wrong)).toMatchObject({ code: 2, stderr: expect.stringContaining("certificate") });
  });

  it("can be delegated and replaced", async () => {
    await using nodes = await Nodes.create();
    const at = (name: string): string => join(nodes.directory, name);
    await done("mesh", "create", "--authority", at("root"));
    const admin = await done("mesh", "delegate", at("admin"), "--authority", at("root"), "--days", "7");
    expect(admin).toMatch(/^12D3KooW\w+ may issue/);
    const again = await run(["mesh", "create", "--authority", at("root")]);
    expect(again).toMatchObject({ code: 1, stdout: "" });
    for (const wrong of [
      ["mesh", "delegate", at("x"), "--authority", at("root"), "--days", "0"],
      ["mesh", "delegate", at("x"), "--authority", at("root"), "--days", "401"],
      ["mesh", "rotate", "--authority", at("root"), "--overlap-days", "31"],
      ["mesh", "rotate", "--authority", ""],
    ]) {
      const flag = wrong.findLast((each) => each.startsWith("--"));
      const told = await run(wrong);
      expect(told).toMatchObject({ code: 2, stderr: expect.stringContaining(`option '${flag} <`) });
    }
    const before = await readFile(join(at("root"), "mesh.json"), "utf8");
    const untold = await run(["mesh", "rotate", "--authority", at("root"), "--data", at("nobody")]);
    expect(untold).toMatchObject({ code: 1, stderr: expect.stringContaining("NOT_RUNNING") });
    expect(await readFile(join(at("root"), "mesh.json"), "utf8")).toBe(before);
    const notices = await done("mesh", "rotate", "--authority", at("root"));
    expect(notices).toMatch(/^[\w-]+$/);
    expect(await readFile(join(at("root"), "mesh.json"), "utf8")).toContain('"rotations": [');
    const root = await run(["mesh", "rotate", "--authority", at("admin")]);
    expect(root.stderr).toContain("only the root can be replaced");
  });
});
