import { setTimeout as delay } from "node:timers/promises";
import { randomHex } from "@klatsch/kit/core";
import { systemClock, systemRandom } from "@klatsch/kit";
import type { Mesh } from "@klatsch/mesh";

import type { Leadership, Message, Queue } from "../types.ts";

/** So long gossip may take: a node that just came waits to hear of the term, and who begins one for others that did. */
const SETTLE_MS = 500;
const TERM_DIGITS = 28;
const TERM = /^[0-9a-f]{28}$/;
/** Of each half of a token. */
const TOKEN_DIGITS = 12;
/** Elections whose last term a node remembers; the one it took part in longest ago is forgotten. */
const LAST_TERMS_MAX = 10_000;

/** What all members agree on, as far as this one has heard. */
interface Term {
  readonly term: string;
  /** Of two terms the one that was written later wins, so its tokens are greater, too. */
  readonly writtenWallMs: number;
}

/** What an election needs of the node. */
export interface ElectPort {
  readonly shared: Mesh["state"]["shared"];
  /** Resolves once a term may begin, as its one message stays for a minute where it is made, or longer; or `isBegun` says that one has. */
  gather(isBegun: () => boolean): Promise<void>;
  /** The queue of one term, known from here on. */
  declare(name: string, leaseMs: number): Queue;
}

/** The term in which a node was a candidate last, by name. */
const lastTerms = new WeakMap<ElectPort["shared"], Map<string, Term>>();

/** Name of the queue of one term: no application can declare it. */
function queueOf(name: string, term: string): string {
  return `~elect/${name}/${term}`;
}

/** Whether a queue is that of a term of this election. */
export function isElectionOf(queue: string, name: string): boolean {
  return queue.startsWith(queueOf(name, ""));
}

/** Of the shared entry that names the term. */
export function electionKey(name: string): string {
  return `queue/elect/${name}`;
}

export function isElection(queue: string): boolean {
  return queue.startsWith("~");
}

/**
 * A candidate of an election. It is a queue with one message: who holds it leads, its epochs are the fencing tokens,
 * and what queues promise of a message's one holder is what elections promise of the leader. The message is made
 * once a term; a term begins when nobody knows of one, and of two that begin at once all members agree on the later.
 */
export async function elect(
  port: ElectPort,
  name: string,
  leaseMs: number,
  signal: AbortSignal | undefined,
): Promise<Leadership> {
  const key = electionKey(name);
  for (;;) {
    signal?.throwIfAborted();
    const term = termIn(port.shared, key);
    const last = lastTerms.get(port.shared)?.get(name);
    if (term === undefined || isTie(term, last)) {
      await beginTerm(port, name, key, leaseMs, last?.writtenWallMs ?? 0, signal);
      continue;
    }
    remember(port.shared, name, term);
    const won = await candidate(port, name, key, term, leaseMs, signal);
    if (won !== undefined) return won;
  }
}

/** Of two that were written at the same instant the tokens would not grow. */
function isTie(term: Term, last: Term | undefined): boolean {
  return last !== undefined && last.term !== term.term && last.writtenWallMs >= term.writtenWallMs;
}

function remember(shared: ElectPort["shared"], name: string, term: Term): void {
  const terms = lastTerms.get(shared) ?? new Map<string, Term>();
  lastTerms.set(shared, terms);
  terms.delete(name);
  terms.set(name, term);
  const [oldest] = terms.keys();
  if (terms.size > LAST_TERMS_MAX && oldest !== undefined) terms.delete(oldest);
}

function termIn(shared: ElectPort["shared"], key: string): Term | undefined {
  const [entry] = shared.entries({ key });
  if (typeof entry?.value !== "string" || !TERM.test(entry.value)) return undefined;
  return { term: entry.value, writtenWallMs: entry.writtenWallMs };
}

async function beginTerm(
  port: ElectPort,
  name: string,
  key: string,
  leaseMs: number,
  lastMs: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const before = port.shared.get(key);
  const isBegun = (): boolean => port.shared.get(key) !== before;
  await port.gather(isBegun);
  const term = randomHex(systemRandom, TERM_DIGITS);
  // Where some member's clock is ahead, what is written bears its instant until the others' clocks have passed that.
  do await settle(signal);
  while (!isBegun() && systemClock.now().wallMs <= lastMs);
  if (isBegun()) return;
  // The message first: who hears of the term finds something to be elected by.
  await orAborted(port.declare(queueOf(name, term), leaseMs).enqueue(new Uint8Array(0)), signal);
  if (!isBegun()) await port.shared.set(key, term);
  await settle(signal);
}

async function settle(signal: AbortSignal | undefined): Promise<void> {
  await delay(SETTLE_MS, undefined, signal === undefined ? {} : { signal }).catch((error: unknown) => {
    signal?.throwIfAborted(); // With its own reason.
    throw error;
  });
}

/** A message that nobody waits for any more is never led by: its term is known to nobody. */
async function orAborted<T>(doing: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await doing;
  const gone = Promise.withResolvers<never>();
  const onAbort = (): void => gone.reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([doing, gone.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** Waits to be elected in this term; `undefined` if another one took its place. */
async function candidate(
  port: ElectPort,
  name: string,
  key: string,
  { term, writtenWallMs }: Term,
  leaseMs: number,
  signal: AbortSignal | undefined,
): Promise<Leadership | undefined> {
  const over = new AbortController();
  const unwatch = port.shared.watch({ key }, ({ value }) => {
    if (value !== term) over.abort(new Error("the term is over"));
  });
  let won: Leadership | undefined;
  try {
    const signals = signal === undefined ? [over.signal] : [over.signal, signal];
    const message = await port
      .declare(queueOf(name, term), leaseMs)
      .take({ signal: AbortSignal.any(signals) });
    if (over.signal.aborted) await message.release();
    else won = new Lead(name, writtenWallMs, message, over.signal, unwatch);
  } catch (error) {
    if (!over.signal.aborted) throw error;
  } finally {
    if (won === undefined) unwatch();
  }
  return won;
}

class Lead implements Leadership {
  readonly name: string;
  readonly token: string;
  readonly signal: AbortSignal;
  readonly #message: Message;
  readonly #unwatch: () => void;
  #resigned: Promise<void> | undefined;

  constructor(name: string, termMs: number, message: Message, over: AbortSignal, unwatch: () => void) {
    this.name = name;
    // Of a later term, or of a later epoch of the same one, the token is greater as text.
    this.token = [termMs, message.epoch]
      .map((part) => part.toString(16).padStart(TOKEN_DIGITS, "0"))
      .join("");
    this.signal = AbortSignal.any([message.signal, over]);
    this.#message = message;
    this.#unwatch = unwatch;
    over.addEventListener("abort", () => void this.resign(), { once: true });
  }

  resign(): Promise<void> {
    // A lease that is over by itself needs no release.
    this.#resigned ??= this.#message.release().catch(() => undefined);
    this.#unwatch();
    return this.#resigned;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.resign();
  }
}
