import { systemClock } from "@klatsch/kit";
import { rendezvousOrder } from "@klatsch/kit/core";

import { REPLICAS_MAX } from "../codec/shapes.ts";
import { choosePlacement } from "../core/placement.ts";
import type { Candidate } from "../core/placement.ts";
import type { Definition, Ordered } from "../core/types.ts";
import { QueueError } from "../errors.ts";
import { TIMEOUT_MS } from "../options.ts";
import { enqueueError } from "./told.ts";

/** How long the stores of a new ordered queue may take to be reached, in milliseconds. */
const STORES_MS = 10_000;
/** How long a majority of them may take, in milliseconds. */
const MAJORITY_MS: number = TIMEOUT_MS;
/** How long to wait for each node that comes before this one, and for others that declared at the same time. */
const RANK_MS = 250;
const SETTLE_MS = 300;
const LOOK_MS = 20;
/** Who may keep a queue is looked at less often: all members are, for each that waits. */
const MAJORITY_LOOK_MS = 250;

/** Who may keep a queue. */
export interface Candidates {
  readonly self: Candidate;
  readonly others: readonly Candidate[];
}

/** What declaring an ordered queue needs of the node. */
export interface DeclarePort {
  /** What is known under the name now. */
  known(): Definition | undefined;
  candidates(): Candidates;
  agree(ordered: Ordered): void;
  /** Throws once the queues have ended. */
  check(): void;
}

/**
 * Makes an ordered queue known. Its definition names the stores of its lanes, so two nodes that declare it at once
 * would make two queues: nodes let the one go first that comes first for this name, and of two the smaller id stays.
 */
export async function declareOrdered(
  port: DeclarePort,
  name: string,
  replicas: number,
  order: Omit<Ordered, "stores">,
): Promise<Definition> {
  const endMs = systemClock.now().monoMs + STORES_MS;
  const stores = await reachable(port, name, replicas, endMs);
  const self = port.candidates().self.store;
  const rank = Math.max(
    0,
    stores.findIndex(({ store }) => store === self),
  );
  await until(port, () => port.known() !== undefined, systemClock.now().monoMs + rank * RANK_MS);
  if (port.known() === undefined) port.agree({ ...order, stores });
  await until(port, () => false, systemClock.now().monoMs + SETTLE_MS);
  const known = port.known();
  if (known === undefined) throw new QueueError("QUEUE_DELETED", `queue ${name} was deleted meanwhile`);
  return known;
}

/**
 * Resolves once a message in a queue that is not there yet would find a majority of its replicas, or `isNeedless` says that there
 * is one already; `candidates` throws once the queues have ended. Queues that are made for one message each, and never take it, would be kept by all nodes for ever.
 */
export async function majority(
  candidates: () => Candidates,
  replicas: number,
  isNeedless: () => boolean,
  signal: AbortSignal | undefined,
): Promise<void> {
  const found = (): { readonly have: number; readonly need: number } => {
    const { self, others } = candidates();
    const { reachable, quorum } = choosePlacement(self, others, replicas, "");
    return { have: reachable, need: quorum };
  };
  const isEnough = (): boolean => {
    const { have, need } = found();
    return have >= need || isNeedless();
  };
  const port = { check: () => signal?.throwIfAborted() };
  await until(port, isEnough, systemClock.now().monoMs + MAJORITY_MS, MAJORITY_LOOK_MS);
  if (!isEnough()) throw enqueueError({ code: "QUORUM_UNAVAILABLE", ...found() });
}

/** Until a new node has met the others. */
export interface Meeting {
  readonly endMs: number;
  /** Whether this node has heard of the queues there are, or met as many nodes as it has to. Throws once its own have ended. */
  readonly hasHeard: () => boolean;
}

/** Resolves once it has met them, or time is over. */
export async function met({ endMs, hasHeard }: Meeting, signal: AbortSignal | undefined): Promise<void> {
  await until({ check: () => signal?.throwIfAborted() }, hasHeard, endMs);
}

/**
 * What is known under a name, once it is what is wanted of it. Right after the start that may still be a queue that was
 * deleted meanwhile, and of the one after it this node will hear; or nothing, as this node has met nobody yet: to make a queue then
 * would be to make another one of that name.
 */
export async function awaitSame(
  find: () => Definition | undefined,
  fits: (known: Definition) => boolean,
  { endMs, hasHeard }: Meeting,
): Promise<Definition | undefined> {
  const isSettled = (): boolean => {
    const known = find();
    return (known !== undefined && fits(known)) || hasHeard();
  };
  await until(undefined, isSettled, endMs);
  return find();
}

async function reachable(
  port: DeclarePort,
  name: string,
  replicas: number,
  endMs: number,
): Promise<Ordered["stores"]> {
  let stores: Ordered["stores"] = [];
  const enough = (): boolean => {
    const { self, others } = port.candidates();
    const up = [self, ...others.filter(({ status, reachable: isUp }) => isUp && status === "alive")];
    const byStore = new Map(up.map(({ peer, store }) => [store, { peer, store }]));
    stores = rendezvousOrder(name, [...byStore.keys()]).flatMap((store) => byStore.get(store) ?? []);
    return stores.length >= replicas || port.known() !== undefined;
  };
  await until(port, enough, endMs);
  if (!enough()) {
    const text = `an ordered queue needs all ${replicas} stores when it is made: ${stores.length} can be reached`;
    throw new QueueError("QUORUM_UNAVAILABLE", text);
  }
  return stores.slice(0, REPLICAS_MAX);
}

async function until(
  port: Pick<DeclarePort, "check"> | undefined,
  condition: () => boolean,
  endMs: number,
  lookMs: number = LOOK_MS,
): Promise<void> {
  while (!condition() && systemClock.now().monoMs < endMs) {
    await new Promise((resolve) => setTimeout(resolve, lookMs));
    port?.check();
  }
}
