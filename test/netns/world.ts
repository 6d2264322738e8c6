/** Nodes in network namespaces, joined by virtual cables that can be pulled. Runs inside `unshare -rn`. */
import { execFileSync, spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { MeshInit } from "@klatsch/mesh";
import { openNamespace, runIn } from "./namespace.ts";
import type { Question, Reply, Started } from "./node.ts";

const SCRIPT = fileURLToPath(new URL("node.ts", import.meta.url));
const PORT = 4_001;

interface Place {
  /** Holds the namespace for as long as this process lives. */
  readonly holder: ChildProcess;
  readonly addresses: string[];
  child: ChildProcess | undefined;
  started: Started | undefined;
}

export class World {
  readonly #directory = mkdtempSync(join(tmpdir(), "klatsch-netns-"));
  readonly #places = new Map<string, Place>();
  readonly #cables: (readonly [string, string])[] = [];
  readonly #pending = new Map<number, PromiseWithResolvers<unknown>>();
  #lastId = 0;

  /** Nodes named by letters, and cables between them: "ab bc". */
  static async of(names: string, cables: string): Promise<World> {
    const world = new World();
    for (const name of names) await world.#addPlace(name);
    for (const [a, b] of cables.split(" ").map((pair) => pair.split(""))) world.#addCable(a ?? "", b ?? "");
    return world;
  }

  /** Starts all nodes, each joining by the neighbours that run. */
  async start(init: (name: string) => Partial<MeshInit> = () => ({})): Promise<void> {
    for (const [name, place] of this.#places) {
      const bootstrap = this.#neighbours(name).flatMap(
        (other) => this.#place(other).started?.addresses ?? [],
      );
      const all: MeshInit = {
        ...{ name, bootstrap, admission: "open", dataDir: join(this.#directory, name) },
        listen: place.addresses.map((address) => `/ip4/${address}/tcp/${PORT}`),
        ...init(name),
      };
      const node = [process.execPath, "--conditions=klatsch-source", SCRIPT, JSON.stringify(all)];
      const child = spawn("nsenter", ["-t", String(place.holder.pid), "-n", ...node], {
        stdio: ["ignore", "inherit", "inherit", "ipc"],
      });
      place.child = child;
      const [started] = (await once(child, "message")) as [Started];
      place.started = started;
      child.on("message", (message) => this.#answered(message as Reply));
    }
  }

  ask(name: string, what: Question["what"], about = name): Promise<unknown> {
    this.#lastId += 1;
    const question: Question = { id: this.#lastId, what, peer: this.#place(about).started?.peerId ?? "" };
    const answered = Promise.withResolvers<unknown>();
    this.#pending.set(question.id, answered);
    this.#place(name).child?.send(question);
    return answered.promise;
  }

  /** Until all know all. */
  async meet(): Promise<void> {
    const names = [...this.#places.keys()].toSorted().join("");
    for (const name of this.#places.keys())
      while (((await this.ask(name, "names")) as string[]).join("") !== names) await delay(100);
  }

  /** Pulls the cable, or puts it back. */
  cable(a: string, b: string, state: "up" | "down"): void {
    const index = this.#cables.findIndex(([x, y]) => (x === a && y === b) || (x === b && y === a));
    this.#in(a, "ip", "link", "set", `c${index}`, state);
    this.#in(b, "ip", "link", "set", `c${index}`, state);
  }

  end(): void {
    for (const { child, holder } of this.#places.values()) {
      child?.kill("SIGKILL");
      holder.kill("SIGKILL");
    }
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async #addPlace(name: string): Promise<void> {
    const holder = await openNamespace();
    this.#places.set(name, { holder, addresses: [], child: undefined, started: undefined });
  }

  #addCable(a: string, b: string): void {
    const index = this.#cables.length;
    const name = `c${index}`;
    const [pidA, pidB] = [a, b].map((end) => String(this.#place(end).holder.pid));
    const peer = ["peer", "name", name, "netns", pidB ?? ""];
    execFileSync("ip", ["link", "add", name, "netns", pidA ?? "", "type", "veth", ...peer]);
    for (const [end, host] of [
      [a, 1],
      [b, 2],
    ] as const) {
      this.#in(end, "ip", "addr", "add", `10.7.${index}.${host}/30`, "dev", name);
      this.#in(end, "ip", "link", "set", name, "up");
      this.#place(end).addresses.push(`10.7.${index}.${host}`);
    }
    this.#cables.push([a, b]);
  }

  #neighbours(name: string): string[] {
    return this.#cables.flatMap(([a, b]) => (a === name ? [b] : b === name ? [a] : []));
  }

  #in(name: string, ...command: readonly string[]): void {
    runIn(this.#place(name).holder, ...command);
  }

  #place(name: string): Place {
    const place = this.#places.get(name);
    if (place === undefined) throw new Error(`no node ${name}`);
    return place;
  }

  #answered({ id, value, error }: Reply): void {
    const answered = this.#pending.get(id);
    this.#pending.delete(id);
    if (error === undefined) answered?.resolve(value);
    else answered?.reject(new Error(error));
  }
}
