import type { Instant } from "@klatsch/kit/core";
import { SeededRandom } from "@klatsch/kit/core";
import type { SharedEntry, StateMessage } from "../../../packages/mesh/src/core/state/messages.ts";
import type { SharedPorts } from "../../../packages/mesh/src/core/state/shared-entries.ts";
import { StateCore } from "../../../packages/mesh/src/core/state/state-core.ts";
import type { StateEffect, StateInput } from "../../../packages/mesh/src/core/state/state-types.ts";
import { STATE_TIMES } from "../../../packages/mesh/src/core/state/state-types.ts";
import type { World } from "./world.ts";

/** What survives a process. */
export interface SimDisk {
  readonly entries: Map<string, SharedEntry>;
  agreedAtMs: number | undefined;
  boot: number;
}

/** One identity with its disk; its process may end and start again. */
export class SimNode {
  readonly name: string;
  readonly disk: SimDisk = { entries: new Map(), agreedAtMs: undefined, boot: 0 };
  /** How far its wall clock is ahead of the world's. */
  aheadMs = 0;
  /** Where the next process starts counting: as if its disk and clock had gone back. */
  bootFallsBy = 0;
  core: StateCore | undefined;
  refused = 0;
  readonly #world: World;
  /** What it holds of others, as far as it may never go back: `boot`, `version` by peer. */
  readonly #seen = new Map<string, readonly [number, number]>();
  readonly #stamps = new Map<string, SharedEntry>();

  constructor(world: World, name: string) {
    this.#world = world;
    this.name = name;
  }

  get running(): boolean {
    return this.core !== undefined;
  }

  start(): void {
    const { disk } = this;
    disk.boot = Math.max(1, disk.boot + 1 - this.bootFallsBy);
    this.bootFallsBy = 0;
    this.#seen.clear();
    this.#stamps.clear();
    const { coreClass, random } = this.#world;
    this.core = new (coreClass ?? StateCore)(
      {
        self: this.name,
        boot: disk.boot,
        times: STATE_TIMES,
        random: new SeededRandom(random.uint32()),
        shared: {
          ports: portsOf(this.name),
          entries: [...disk.entries.values()],
          agreedAtMs: disk.agreedAtMs,
        },
      },
      this.now(),
    );
    this.enter({ type: "tick" });
  }

  /** The process ends without a word. */
  end(): void {
    this.core = undefined;
  }

  now(): Instant {
    return { monoMs: this.#world.nowMs, wallMs: this.#world.wallMs + this.aheadMs };
  }

  enter(input: StateInput): void {
    const { core } = this;
    if (core === undefined) return;
    const effects = [...core.step(input, this.now()), ...core.flush(this.now())];
    for (const effect of effects) this.#perform(effect);
    this.#check();
  }

  get deadline(): number {
    return this.core?.nextDeadline() ?? Infinity;
  }

  /** Lets a deadline that has come be noticed. */
  tick(): void {
    if (this.deadline <= this.#world.nowMs) this.enter({ type: "tick" });
  }

  receive(from: string, message: StateMessage): void {
    this.enter({ type: "message", peer: from, message });
  }

  #perform(effect: StateEffect): void {
    switch (effect.type) {
      case "send":
        this.#world.send(this, effect.to, effect.message);
        return;
      case "persist":
        if (effect.entry === undefined) this.disk.entries.delete(effect.key);
        else this.disk.entries.set(effect.key, effect.entry);
        return;
      case "agreed":
        this.disk.agreedAtMs = effect.atMs;
        return;
      case "raiseBoot":
        if (effect.above < this.disk.boot) return;
        this.disk.boot = effect.above + 1;
        this.enter({ type: "booted", boot: this.disk.boot });
        this.#world.booted(this);
        return;
      case "refused":
        this.refused += 1;
        return;
      case "ownChanged":
      case "sharedChanged":
      case "reply":
        return;
    }
  }

  /** What is never to happen at a node. */
  #check(): void {
    const { core } = this;
    if (core === undefined) return;
    for (const peer of core.owners()) {
      const { boot, version } = core.ownHead(peer) ?? { boot: 0, version: 0 };
      const [bootBefore, versionBefore] = this.#seen.get(peer) ?? [0, 0];
      if (boot < bootBefore || (boot === bootBefore && version < versionBefore)) {
        this.#world.violate("BACK", `${this.name} went back to ${boot}/${version} of ${peer}`);
      }
      this.#seen.set(peer, [boot, version]);
    }
    for (const key of this.#world.sharedKeys) this.#checkShared(core, key);
  }

  #checkShared(core: StateCore, key: string): void {
    const entry = core.shared(key);
    const before = this.#stamps.get(key);
    if (entry === undefined) {
      this.#stamps.delete(key);
      return;
    }
    if (entry === before) return;
    this.#stamps.set(key, entry);
    if (before !== undefined && (entry.l < before.l || (entry.l === before.l && entry.c < before.c))) {
      this.#world.violate("BACK", `${this.name} took an older ${key}`);
    }
    if (entry.writer !== this.name && entry.l > this.now().wallMs + core.meshAheadMs + 60_000) {
      this.#world.violate("CLOCK", `${this.name} took ${key} of a clock too far ahead`);
    }
    if (!portsOf(this.name).verify(entry)) this.#world.violate("FORGED", `${this.name} took a forged ${key}`);
  }
}

/** Signatures that are none: whoever knows the scheme could forge them, and only the world's forger does not. */
function portsOf(self: string): SharedPorts {
  const signatureOf = (entry: Omit<SharedEntry, "signature" | "credential">): Uint8Array => {
    const { key, valueHash, override, l, c, writer } = entry;
    return Uint8Array.from(`${writer} ${key} ${valueHash} ${override} ${l} ${c}`, (char) =>
      char.charCodeAt(0),
    );
  };
  return {
    seal: (draft) => {
      const valueHash = draft.value === undefined ? "" : String(draft.value);
      const entry = { ...draft, valueHash, writer: self };
      return { ...entry, signature: signatureOf(entry), credential: undefined };
    },
    verify: (entry) => String(entry.signature) === String(signatureOf(entry)),
    mayWrite: () => true,
  };
}
