import type { Logger } from "@klatsch/kit";
import type { Mesh, StateValue } from "@klatsch/mesh";

import { altered } from "../core/definitions.ts";
import type { QueueInput } from "../core/inputs.ts";
import type { Definition, Policy, QueueId } from "../core/types.ts";
import { parseChanges, policySchema } from "../options.ts";
import type { QueueChanges } from "../types.ts";

/** Shared entries that say that a queue is paused. */
const PAUSED = "queue/paused/";
/** Shared entries that say which options a queue has that is not as it was declared. */
const POLICY = "queue/policy/";

type Shared = Mesh["state"]["shared"];

interface ControlsPort {
  /** @throws QueueError `FAILED`, `STOPPED` */
  check(): void;
  enter(input: QueueInput): void;
}

/** What people decide about queues that are there, on any node and for all: whether they are paused, and some of their options. */
export class Controls {
  readonly #shared: Shared;
  readonly #logger: Logger;
  readonly #port: ControlsPort;
  readonly #policies = new Map<QueueId, Policy>();
  #unwatch: (() => void)[] = [];

  constructor(shared: Shared, logger: Logger, port: ControlsPort) {
    this.#shared = shared;
    this.#logger = logger;
    this.#port = port;
  }

  /** Tells the core what is decided, now and whenever that changes. */
  start(): void {
    this.#watch(PAUSED, (queue, value) => {
      this.#port.enter({ type: "pause", queue, paused: value === true });
    });
    this.#watch(POLICY, (queue, value) => {
      const policy = this.#policyOf(queue, value);
      if (policy === undefined) this.#policies.delete(queue);
      else this.#policies.set(queue, policy);
      this.#port.enter({ type: "alter", queue, policy });
    });
  }

  stop(): void {
    for (const unwatch of this.#unwatch.splice(0)) unwatch();
  }

  #watch(prefix: string, tell: (queue: QueueId, value: unknown) => void): void {
    for (const { key, value } of this.#shared.entries({ prefix })) tell(key.slice(prefix.length), value);
    this.#unwatch.push(
      this.#shared.watch({ prefix }, ({ key, value }) => tell(key.slice(prefix.length), value)),
    );
  }

  /** Any member may write such an entry: what makes no sense changes nothing. */
  #policyOf(queue: QueueId, value: unknown): Policy | undefined {
    if (value === undefined) return undefined;
    const { data, error } = policySchema.safeParse(value);
    if (error !== undefined) this.#logger.warn("a member altered a queue to what no queue can be", { queue });
    return data;
  }

  isPaused(queue: QueueId): boolean {
    return this.#shared.get(PAUSED + queue) === true;
  }

  async pause(queue: QueueId): Promise<void> {
    this.#port.check();
    await this.#shared.set(PAUSED + queue, true);
  }

  async resume(queue: QueueId): Promise<void> {
    this.#port.check();
    await this.#shared.delete(PAUSED + queue);
  }

  /** The queue as it is now. */
  current(declared: Definition): Definition {
    const policy = this.#policies.get(declared.queue);
    return policy === undefined ? declared : altered(declared, policy);
  }

  /** @throws QueueError `INVALID_OPTIONS`, `FAILED`, `STOPPED`; what the mesh throws. */
  async alter(declared: Definition, changes: QueueChanges): Promise<void> {
    const policy = parseChanges(this.current(declared), changes);
    this.#port.check();
    const value: Record<string, StateValue> = {};
    for (const [name, option] of Object.entries(policy)) {
      if (option !== undefined) value[name] = typeof option === "object" ? { ...option } : option;
    }
    await this.#shared.set(POLICY + declared.queue, value);
  }

  /** The queue was deleted. */
  async forget(queue: QueueId): Promise<void> {
    this.#port.check();
    await this.#shared.delete(PAUSED + queue);
    await this.#shared.delete(POLICY + queue);
  }
}
