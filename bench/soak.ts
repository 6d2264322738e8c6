/**
 * A mesh in trouble, for minutes. In the end those that stay have to hold exactly the others alive that run, nobody
 * may have been held dead that was not killed, and their heaps may not have grown.
 * `npm run soak:mesh [-- --with churn --nodes 20 --minutes 10 --seed 1]`
 *
 * - `churn`: members join, stop, leave for good and are killed, while a quarter stays.
 * - `stalls`: a tenth of the nodes at a time block their event loops for 2 s, each with 1 s or more between.
 * - `loss`: 30 % of all frames of membership and gossip state are lost.
 */
import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { randomBelow, SeededRandom } from "@klatsch/kit/core";
import type { SoakCall, SoakWord } from "./soak-node.ts";

const TROUBLES = ["churn", "stalls", "loss"] as const;

const { values } = parseArgs({
  options: {
    with: { type: "string", default: "churn" },
    nodes: { type: "string", default: "20" },
    minutes: { type: "string", default: "10" },
    seed: { type: "string", default: "1" },
  },
});
const trouble = TROUBLES.find((known) => known === values.with);
if (trouble === undefined) throw new Error(`--with: ${values.with} is none of ${TROUBLES.join(", ")}`);
const nodes = Number(values.nodes);
const minutes = Number(values.minutes);
if (!(nodes >= 3) || !(minutes > 0)) throw new Error("--nodes: from 3, --minutes: above 0");
const random = new SeededRandom(Number(values.seed));

/** Who stays from beginning to end. */
const STAYING = trouble === "churn" ? Math.max(2, Math.floor(nodes / 4)) : nodes;
const STALLED = Math.max(1, Math.round(nodes / 10));
/** From one stall of a node to its next: the stall and what is to be between. */
const STALL_AGAIN_MS = 3_000;
const STALL_STEP_MS = 250;
const LOSS = trouble === "loss" ? 0.3 : 0;
/** As `soak-node.ts` has it; importing that would start a node. */
const STALL_MS = 2_000;
/** Heaps are compared from here on: code is compiled and caches are filled by then. */
const WARM_MS = 30_000;
const STEP_MS = 1_500;
const FORGET_MS = 60_000;
const AGREE_MS = 30_000;
const WAIT_MS = 30_000;

type Started = Extract<SoakWord, { type: "started" }>;
type Report = Extract<SoakWord, { type: "report" }>;

/** A process, from its start to its end. */
class SoakNode {
  readonly child: ChildProcess;
  readonly started: Promise<Started>;
  #reported: ((report: Report) => void) | undefined;

  constructor(dataDir: string, bootstrap: readonly string[], onDied: (peerId: string, boot: number) => void) {
    const init = { name: "soak", dataDir, bootstrap, forgetAfterMs: FORGET_MS, loss: LOSS };
    this.child = fork(fileURLToPath(new URL("./soak-node.ts", import.meta.url)), [JSON.stringify(init)], {
      execArgv: [...process.execArgv, "--expose-gc"],
    });
    const started = Promise.withResolvers<Started>();
    this.started = started.promise;
    this.child.on("error", () => undefined);
    this.child.on("message", (word: SoakWord) => {
      if (word.type === "started") started.resolve(word);
      else if (word.type === "died") onDied(word.peerId, word.boot);
      else this.#reported?.(word);
    });
  }

  async report(): Promise<Report> {
    const reported = new Promise<Report>((resolve) => (this.#reported = resolve));
    this.#call("report");
    const report = await Promise.race([reported, sleep(WAIT_MS, undefined, { ref: false })]);
    if (report === undefined) throw new Error(`no report after ${WAIT_MS} ms`);
    return report;
  }

  async end(how: "kill" | "stop" | "leave"): Promise<void> {
    const ended = once(this.child, "exit");
    if (how === "kill") this.child.kill("SIGKILL");
    else this.#call(how);
    const timer = setTimeout(() => this.child.kill("SIGKILL"), WAIT_MS);
    await ended;
    clearTimeout(timer);
  }

  stall(): void {
    this.#call("stall");
  }

  #call(call: SoakCall): void {
    if (this.child.connected) this.child.send(call);
  }
}

const directory = await mkdtemp(join(tmpdir(), "klatsch-soak-"));
const killed = new Set<string>();
const falseDeaths: string[] = [];
const counts: Record<string, number> = { start: 0, kill: 0, stop: 0, leave: 0 };
const places: (SoakNode | undefined)[] = [];
const identities: number[] = [];
let bootstrap: readonly string[] = [];

async function start(place: number): Promise<void> {
  const dataDir = join(directory, `${place}-${identities[place] ?? 0}`);
  const node = new SoakNode(dataDir, bootstrap, (peerId, boot) => {
    if (!killed.has(`${peerId}/${boot}`)) falseDeaths.push(`${peerId} at boot ${boot}`);
  });
  places[place] = node;
  counts["start"] = (counts["start"] ?? 0) + 1;
  await node.started;
}

/** One change: a place that is empty is filled, one that is not is emptied in one way or another. */
async function churn(): Promise<void> {
  const place = STAYING + randomBelow(random, nodes - STAYING);
  const node = places[place];
  if (node === undefined) {
    await start(place);
    return;
  }
  const how = (["kill", "stop", "leave"] as const)[randomBelow(random, 3)] ?? "kill";
  const { peerId, boot } = await node.started;
  counts[how] = (counts[how] ?? 0) + 1;
  if (how === "kill") killed.add(`${peerId}/${boot}`);
  if (how === "leave") identities[place] = (identities[place] ?? 0) + 1; // It never comes back as that one.
  places[place] = undefined;
  await node.end(how);
}

const stalledAtMs = new Map<SoakNode, number>();

/** As many stand still at a time as may, chosen by chance among those that ran for long enough. */
function stall(): void {
  const nowMs = performance.now();
  const since = (node: SoakNode): number => nowMs - (stalledAtMs.get(node) ?? -Infinity);
  const rested = running().filter((node) => since(node) >= STALL_AGAIN_MS);
  let still = running().filter((node) => since(node) < STALL_MS).length;
  for (; still < STALLED && rested.length > 0; still += 1) {
    const [node] = rested.splice(randomBelow(random, rested.length), 1);
    node?.stall();
    if (node !== undefined) stalledAtMs.set(node, nowMs);
    counts["stall"] = (counts["stall"] ?? 0) + 1;
  }
}

/** One step of the trouble. */
async function disturb(): Promise<void> {
  if (trouble === "churn") await churn();
  if (trouble === "stalls") stall();
  await sleep(trouble === "churn" ? STEP_MS : STALL_STEP_MS);
}

/** Those that stay first. */
function running(): readonly SoakNode[] {
  return places.filter((node) => node !== undefined);
}

async function heaps(): Promise<readonly number[]> {
  const reports = await Promise.all(
    running()
      .slice(0, STAYING)
      .map((node) => node.report()),
  );
  return reports.map(({ heapBytes }) => Number((heapBytes / 2 ** 20).toFixed(1)));
}

/** Whether those that stay hold exactly those alive that run. */
async function agree(): Promise<boolean> {
  const nodes = running();
  const expected = (await Promise.all(nodes.map(async (node) => (await node.started).peerId))).toSorted();
  const reports = await Promise.all(nodes.slice(0, STAYING).map((node) => node.report()));
  return reports.every(({ alive }) => alive.toSorted().join() === expected.join());
}

try {
  await start(0);
  bootstrap = (await places[0]?.started)?.addresses ?? [];
  await Promise.all(Array.from({ length: nodes - 1 }, (_, index) => start(index + 1)));
  await sleep(WARM_MS);
  const before = await heaps();
  const endAtMs = performance.now() + minutes * 60_000;
  while (performance.now() < endAtMs) {
    await disturb();
  }
  const agreeByMs = performance.now() + AGREE_MS;
  let isAgreed = await agree();
  while (!isAgreed && performance.now() < agreeByMs) {
    await sleep(500);
    isAgreed = await agree();
  }
  if (trouble === "churn") await sleep(FORGET_MS); // Those that are gone are forgotten, too.
  const after = await heaps();
  console.log(
    JSON.stringify({ with: trouble, nodes, minutes, ...counts, heapMiBBefore: before, heapMiBAfter: after }),
  );
  console.log(`agreed in the end: ${String(isAgreed)}, false deaths: ${falseDeaths.length}`);
  if (!isAgreed || falseDeaths.length > 0) process.exitCode = 1;
} finally {
  await Promise.all(running().map((node) => node.end("stop")));
  await rm(directory, { recursive: true, force: true });
}
