import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createMesh } from "@klatsch/mesh";
import type { Channel, ChannelClass, Mesh, MeshEvents, MeshInit } from "@klatsch/mesh";

const EVENTS: readonly (keyof MeshEvents)[] = [
  "member:joined",
  "member:suspected",
  "member:refuted",
  "member:died",
  "member:stopped",
  "member:left",
  "member:forgotten",
  "link:up",
  "link:down",
  "link:refused",
  "tunnel:up",
  "tunnel:down",
  "self:declaredDead",
  "self:isolated",
  "state:quarantined",
  "mesh:failed",
];

/** Meshes and directories of one test, all ended with it. */
export class Bed implements AsyncDisposable {
  readonly directory: string = mkdtempSync(join(tmpdir(), "klatsch-mesh-"));
  readonly meshes: Mesh[] = [];
  readonly #ends: (() => Promise<void> | void)[] = [];

  /** A directory of its own for each name: the same name is the same identity. */
  dataDir(name: string): string {
    return join(this.directory, name);
  }

  async mesh(name: string, init: Partial<MeshInit> = {}): Promise<Mesh> {
    const mesh = await createMesh({ name, dataDir: this.dataDir(name), ...init });
    this.meshes.push(mesh);
    return mesh;
  }

  onEnd(end: () => Promise<void> | void): void {
    this.#ends.push(end);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const end of this.#ends.toReversed()) await end();
    await Promise.all(this.meshes.map((mesh) => mesh.stop()));
    rmSync(this.directory, { recursive: true });
  }
}

/** Resolves once `holds`, looked at now, after each event of any of the meshes, and besides: counters have no events. */
export async function until(meshes: readonly Mesh[], holds: () => boolean, limitMs = 20_000): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const check = (): void => {
      if (!holds()) return;
      finish();
      resolve();
    };
    const offs = meshes.flatMap((mesh) => EVENTS.map((event) => mesh.on(event, () => setImmediate(check))));
    const timer = setTimeout(() => {
      finish();
      reject(new Error(`not within ${limitMs} ms: ${describe(meshes)}`));
    }, limitMs);
    const look = setInterval(check, 50);
    const finish = (): void => {
      clearTimeout(timer);
      clearInterval(look);
      for (const off of offs) off();
    };
    check();
  });
}

/** The next such event, or one that was awaited in time. */
export function next<Name extends keyof MeshEvents>(
  mesh: Mesh,
  name: Name,
  limitMs = 20_000,
): Promise<MeshEvents[Name]> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`no ${name} within ${limitMs} ms: ${describe([mesh])}`)),
      limitMs,
    );
    const off = mesh.on(name, (event) => {
      clearTimeout(timer);
      off();
      resolve(event);
    });
  });
}

/** Everybody is linked to everybody else. */
export function isFull(meshes: readonly Mesh[]): boolean {
  return meshes.every((mesh) =>
    meshes.every((other) => mesh === other || mesh.member(other.peerId)?.linked === true),
  );
}

export async function full(...meshes: readonly Mesh[]): Promise<void> {
  await until(meshes, () => isFull(meshes));
}

export function describe(meshes: readonly Mesh[]): string {
  const views = meshes.map((mesh) => {
    const members = mesh
      .members()
      .map((member) => `${member.name}:${member.status}${member.linked ? "+" : "-"}`);
    return `${mesh.name} sees ${members.join(" ")}`;
  });
  return views.join("; ");
}

/** A channel that writes down what happens to it, and lets a test wait for that. */
export class Probe {
  readonly channel: Channel;
  readonly log: string[] = [];
  readonly frames: Uint8Array[] = [];
  onFrame: (peer: string, frame: Uint8Array) => void = (_peer, frame) => void this.frames.push(frame);
  readonly #up = new Set<string>();
  #waiting: (() => void)[] = [];

  constructor(mesh: Mesh, name = "test", trafficClass?: ChannelClass) {
    this.channel = mesh.channel(
      name,
      {
        onUp: (peer) => {
          if (this.#up.has(peer)) throw new Error("up twice");
          this.#up.add(peer);
          this.#happened(`up ${peer}`);
        },
        onDown: (peer) => {
          if (!this.#up.delete(peer)) throw new Error("down without up");
          this.#happened(`down ${peer}`);
        },
        onFrame: (peer, frame) => {
          if (!this.#up.has(peer)) throw new Error("a frame outside a session");
          this.onFrame(peer, frame);
          this.#wake();
        },
      },
      trafficClass === undefined ? {} : { class: trafficClass },
    );
  }

  count(what: "up" | "down"): number {
    return this.log.filter((line) => line.startsWith(what)).length;
  }

  async until(holds: () => boolean, limitMs = 10_000): Promise<void> {
    const startedMs = performance.now();
    while (!holds()) {
      const leftMs = limitMs - (performance.now() - startedMs);
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(
          () => reject(new Error(`not within ${limitMs} ms: ${this.log.join(", ")}`)),
          leftMs,
        );
        this.#waiting.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  async up(peers = 1): Promise<void> {
    await this.until(() => this.#up.size >= peers);
  }

  #happened(what: string): void {
    this.log.push(what);
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}
