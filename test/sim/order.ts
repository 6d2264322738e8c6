import { DEFAULT_TUNING } from "../../packages/queue/src/core/context.ts";
import type { Value } from "../../packages/queue/src/core/types.ts";
import type { Enqueued } from "./checkers.ts";
import type { LaneTruth, MessageTruth, Truth } from "./truth.ts";
import { isOut, nameOf, say } from "./truth.ts";
import type { Request } from "./workload.ts";
import { CLOCK_STEP_MS } from "./workload.ts";
import type { World } from "./world.ts";

/** An enqueue that was acknowledged: from when it was asked to when it was answered. */
interface Answered {
  readonly message: MessageTruth;
  readonly request: Request;
  readonly askedAt: number;
  readonly answeredAt: number;
}

/** Holds groups (G6) and keys (G7) against what was really chosen. */
export class OrderChecker {
  readonly #world: World;
  readonly #truth: Truth;
  /** Acknowledged enqueues by group, and the first ids by key. */
  readonly #groups = new Map<string, Answered[]>();
  readonly #keys = new Map<string, Answered[]>();

  constructor(world: World, truth: Truth) {
    this.#world = world;
    this.#truth = truth;
  }

  /** A lease is chosen: nobody of its group comes before it, and nobody is held. */
  onChosen(message: MessageTruth, value: Value): void {
    const group = value.attributes?.group;
    if (group === undefined || value.state !== "LEASED" || value.reason !== undefined) return;
    // A late replica may complete the quorum of a step that is long passed.
    if (this.#truth.latest(message) !== value) return;
    for (const other of message.lane.messages.values()) {
      if (other === message || isOut(other.lane, other.seq) || other.done !== undefined) continue;
      const latest = this.#truth.latest(other);
      if (latest === undefined || latest.attributes?.group !== group || latest.reason !== undefined) continue;
      if (latest.state === "LEASED") {
        this.#world.violate(
          "ONE_IN_FLIGHT",
          `${nameOf(message)} is leased while ${nameOf(other)} is ${say(latest)}`,
        );
      }
      const wasPassed = (latest.attributes?.redrives ?? 0) > 0;
      if (other.seq < message.seq && !wasPassed) {
        this.#world.violate(
          "GROUP_ORDER",
          `${nameOf(message)} is leased before ${nameOf(other)}, ${say(latest)}`,
        );
      }
    }
  }

  /** What came first has the lower seq; a key has one id within its window. */
  onEnqueued(request: Request, asked: Enqueued, message: MessageTruth, isDuplicate: boolean): void {
    const { group, dedupKey } = asked;
    const answeredAt = this.#world.events.now;
    const one = { message, request, askedAt: asked.askedAt, answeredAt };
    if (group !== undefined && !isDuplicate) {
      for (const other of listOf(this.#groups, group)) {
        if (other.message.lane !== message.lane) {
          this.#world.violate("ONE_LANE", `${nameOf(message)} and ${nameOf(other.message)} are of one group`);
        }
        if (
          isBefore(other, one)
            ? other.message.seq >= message.seq
            : isBefore(one, other) && other.message.seq <= message.seq
        ) {
          this.#world.violate(
            "GROUP_ORDER",
            `${nameOf(message)} and ${nameOf(other.message)} have changed places`,
          );
        }
      }
      listOf(this.#groups, group).push(one);
    }
    // The window runs from the enqueue that made the message.
    if (dedupKey === undefined || isDuplicate) return;
    for (const other of listOf(this.#keys, `${group ?? ""} ${dedupKey}`)) this.#checkKey(request, other, one);
    listOf(this.#keys, `${group ?? ""} ${dedupKey}`).push(one);
  }

  #checkKey({ id }: Request, before: Answered, one: Answered): void {
    if (before.message === one.message) return;
    const { dedupMs, wallSkewMs, wrongClockMs } = this.#world.scenario;
    // Windows go by the wall clocks of writers: the slack is theirs, and what differs more is let pass.
    const steppedMs = wrongClockMs === 0 ? 0 : Math.abs(wrongClockMs) + 2 * CLOCK_STEP_MS;
    const excusedMs = Math.max(0, 2 * wallSkewMs + steppedMs - DEFAULT_TUNING.clockSlackMs);
    const apartMs = Math.abs(one.answeredAt - before.askedAt);
    const closeMs = Math.abs(before.answeredAt - one.askedAt);
    if (Math.max(apartMs, closeMs) + excusedMs >= dedupMs) return;
    const names = `${nameOf(before.message)} and ${nameOf(one.message)}`;
    this.#world.violate(
      "ONE_ID_PER_KEY",
      `request ${id}: ${names} have one key, ${apartMs.toFixed(0)} ms apart`,
    );
  }

  /** The first is chosen when a duplicate is told of it. */
  onDuplicate(id: number, first: number, message: MessageTruth): void {
    if (id === first)
      this.#world.violate("DUPLICATE_IS_ONE", `request ${id} is called a duplicate of itself`);
    if (this.#truth.exists(message)) return;
    this.#world.violate(
      "DUPLICATE_EXISTS",
      `request ${id} is a duplicate of ${nameOf(message)}, which nobody chose`,
    );
  }

  /** Messages that exist although nobody heard so count as well. */
  onDrained(lanes: Iterable<LaneTruth>): void {
    for (const lane of lanes) {
      const tokens = new Map<string, MessageTruth>();
      for (const message of lane.messages.values()) {
        const token = message.proposals[0]?.value.attributes?.token;
        if (token === undefined || !this.#truth.exists(message)) continue;
        const other = tokens.get(token);
        if (other !== undefined) {
          this.#world.violate("ONE_ID", `${nameOf(message)} and ${nameOf(other)} are one enqueue`);
        }
        tokens.set(token, message);
      }
    }
  }
}

/** Answered before the other was asked, or asked before it by the same process. */
function isBefore(a: Answered, b: Answered): boolean {
  const { request: one } = a;
  const { request: other } = b;
  return (
    a.answeredAt < b.askedAt || (one.node === other.node && one.boot === other.boot && one.id < other.id)
  );
}

function listOf(map: Map<string, Answered[]>, key: string): Answered[] {
  let list = map.get(key);
  if (list === undefined) map.set(key, (list = []));
  return list;
}
