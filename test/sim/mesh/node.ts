import { EffectRunner, SeededRandom } from "@klatsch/kit/core";
import type { Instant } from "@klatsch/kit/core";
import type { Membership } from "../../../packages/mesh/src/core/membership.ts";
import type { MembershipEffect, MembershipInput } from "../../../packages/mesh/src/core/membership-types.ts";
import type { MemberRecord } from "../../../packages/mesh/src/core/messages.ts";
import type { World } from "./world.ts";

const START_WALL_MS = 1_700_000_000_000;

/** What one start of a process is given. */
export interface SimNodeInit {
  readonly name: string;
  readonly boot: number;
  readonly cloud: string;
  /** Whom it knows at its start. */
  readonly seeds: readonly string[];
}

/** One process: a membership with its runner, its clock and its sockets. */
export class SimNode {
  readonly name: string;
  readonly startedMs: number;
  readonly membership: Membership;
  state: "running" | "paused" | "ended" = "running";
  endedMs = Infinity;
  /** How it took its leave, if it did. */
  departedAs: "stopped" | "left" | undefined;
  departedMs = Infinity;
  /** Frames were lost while it said so. */
  departedInLoss = false;
  pausedMs = -Infinity;
  /** When the last pause that was longer than anybody has to bear ended; now, while it lasts. */
  sickUntilMs = -Infinity;
  readonly #world: World;
  readonly #runner: EffectRunner<MembershipInput, MembershipEffect>;
  /** What happened to a paused process: its timers run first when it wakes, then its sockets are read. */
  #timers: (() => void)[] = [];
  #inputs: MembershipInput[] = [];
  #inboundSecond = 0;
  #inbound = 0;

  constructor(world: World, init: SimNodeInit) {
    this.#world = world;
    this.name = init.name;
    this.startedMs = world.nowMs;
    const seeds = new Map(init.seeds.map((seed) => [seed, [`/sim/p2p/${seed}`]]));
    const self: MemberRecord = {
      peer: init.name,
      boot: init.boot,
      inc: 0,
      name: init.name,
      cloud: init.cloud,
      tags: {},
      addresses: [`/sim/p2p/${init.name}`],
    };
    const random = new SeededRandom(world.random.uint32());
    this.membership = world.newMembership({ self, seeds, random }, this.#now());
    this.#runner = new EffectRunner<MembershipInput, MembershipEffect>({
      core: this.membership,
      clock: { now: () => this.#now() },
      tick: { type: "tick" },
      phase: () => "now",
      perform: (effect) => this.#perform(effect),
      commit: () => undefined,
      soon: (task) => world.soon(() => this.#guarded(task)),
      at: (monoMs, task) => world.at(monoMs, () => this.#guarded(task)),
      onFailed: (error) => {
        throw error;
      },
    });
    this.enter({ type: "tick" });
  }

  get boot(): number {
    return this.membership.self.boot;
  }

  sees(peer: string): string | undefined {
    return this.membership.member(peer)?.status;
  }

  enter(input: MembershipInput): void {
    if (this.state === "paused") this.#inputs.push(input);
    else if (this.state === "running") this.#runner.enter(input);
  }

  kill(): void {
    if (this.state === "ended") return;
    this.state = "ended";
    this.endedMs = this.#world.nowMs;
    this.departedInLoss ||= this.#world.network.lossShare > 0;
    this.#timers = [];
    this.#inputs = [];
    this.#runner.stop();
    this.#world.network.closeAll(this.name);
    this.#world.network.changed();
  }

  depart(status: "stopped" | "left"): void {
    if (this.state !== "running") return;
    this.departedAs = status;
    this.departedMs = this.#world.nowMs;
    this.departedInLoss = this.#world.network.lossShare > 0;
    this.#world.network.changed();
    this.enter({ type: "depart", status });
  }

  pause(): void {
    if (this.state !== "running") return;
    this.state = "paused";
    this.pausedMs = this.#world.nowMs;
    this.#world.network.changed();
  }

  resume(): void {
    if (this.state !== "paused") return;
    this.state = "running";
    this.#world.network.changed();
    const { nowMs, rules } = this.#world;
    if (nowMs - this.pausedMs > rules.stallMsMax) this.sickUntilMs = nowMs;
    for (const task of this.#timers.splice(0)) this.#guarded(task);
    for (const input of this.#inputs.splice(0)) this.#world.in(1, () => this.enter(input));
  }

  /** Stops reading and ticking for a while, as a process with a blocked event loop. */
  stall(durationMs: number): void {
    if (this.state !== "running") return;
    this.pause();
    this.#world.in(durationMs, () => this.resume());
  }

  /** Whether one more connection in this second is not too many. */
  takesConnection(perSecond: number): boolean {
    const second = Math.floor(this.#world.nowMs / 1_000);
    if (second !== this.#inboundSecond) this.#inbound = 0;
    this.#inboundSecond = second;
    this.#inbound += 1;
    return this.#inbound <= perSecond;
  }

  /** Since when nothing was wrong with this process that its peers do not have to bear. */
  get wellSinceMs(): number {
    const isSick =
      this.state === "paused" && this.#world.nowMs - this.pausedMs > this.#world.rules.stallMsMax;
    return isSick ? Infinity : Math.max(this.startedMs, this.sickUntilMs);
  }

  #guarded(task: () => void): void {
    if (this.state === "paused") this.#timers.push(task);
    else if (this.state === "running") {
      task();
      this.#world.checks.stepped(this);
    }
  }

  #now(): Instant {
    return { monoMs: this.#world.nowMs, wallMs: START_WALL_MS + this.#world.nowMs };
  }

  #perform(effect: MembershipEffect): void {
    const { network, checks } = this.#world;
    switch (effect.type) {
      case "send":
        network.send(this, effect.to, effect.message);
        return;
      case "dial":
        network.dial(this, effect.peer);
        return;
      case "disconnect":
        network.disconnect(this.name, effect.peer, effect.reason);
        return;
      case "emit":
        checks.saw(this, effect.event);
        return;
      case "answer":
        checks.answered(this, effect.id, effect.gone);
        return;
      case "departed":
        this.kill();
        return;
      case "raiseBoot":
        this.enter({ type: "booted", boot: effect.above + 1 });
    }
  }
}
