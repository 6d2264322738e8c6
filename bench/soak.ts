/**
 * Churn: members join, stop, leave for good and are killed, for minutes, while some stay. In the end those have to
 * hold exactly the others alive that run, nobody may have been held dead that was not killed, and their heaps may not
 * have grown. `npm run soak:mesh [-- --nodes 20 --minutes 10 --seed 1]`
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

const { values } = parseArgs({
  options: {
    nodes: { type: "string", default: "20" },
    minutes: { type: "string", default: "10" },
    seed: { type: "string", default: "1" },
  },
});
const nodes = Number(values.nodes);
const minutes = Number(values.minutes);
const random = new SeededRandom(Number(values.seed));

/** A quarter stays from beginning to end. */
const STAYING = Math.max(2, Math.floor(nodes / 4));
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
    const init = { name: "soak", dataDir, bootstrap, forgetAfterMs: FORGET_MS };
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
    await churn();
    await sleep(STEP_MS);
  }
  const agreeByMs = performance.now() + AGREE_MS;
  let isAgreed = await agree();
  while (!isAgreed && performance.now() < agreeByMs) {
    await sleep(500);
    isAgreed = await agree();
  }
  await sleep(FORGET_MS); // Those that are gone are forgotten, too.
  const after = await heaps();
  console.log(JSON.stringify({ nodes, minutes, ...counts, heapMiBBefore: before, heapMiBAfter: after }));
  console.log(`agreed in the end: ${String(isAgreed)}, false deaths: ${falseDeaths.length}`);
  if (!isAgreed || falseDeaths.length > 0) process.exitCode = 1;
} finally {
  await Promise.all(running().map((node) => node.end("stop")));
  await rm(directory, { recursive: true, force: true });
}
