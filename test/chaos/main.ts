/**
 * Chaos: five real processes share two queues, a plain and an ordered one, while faults befall them, and then their
 * history is checked.
 *
 *     npm run chaos -- --minutes 10 --seed 1 --json result.json
 *
 * The faults and what the nodes do follow from the seed; when exactly things happen does not, so the same seed plays
 * the same faults again, not the same run.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { namespaceObstacle } from "../netns/namespace.ts";
import { check, miscounted, RULES } from "./check.ts";
import type { Verdict, Violation } from "./check.ts";
import { Cluster } from "./cluster.ts";
import { HistoryWriter, readHistory } from "./history.ts";
import { Bridge, Loopback } from "./network.ts";
import type { Network } from "./network.ts";
import { describe, NODES, plan } from "./schedule.ts";
import type { Fault, Planned } from "./schedule.ts";

const INSIDE = "KLATSCH_CHAOS_INSIDE";
const PROGRESS_MS = 10_000;
/** More than any clock is set wrong, in milliseconds. */
const AHEAD_MS = 3_700_000;
/** How long a healed mesh may take to hand out what is left. */
const DRAIN_MS = 180_000;

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "10" },
    seed: { type: "string" },
    /** Where the result goes, as JSON. */
    json: { type: "string" },
    /** Leaves the nodes' directories and histories where they are, as after a violation, and says where. */
    keep: { type: "boolean", default: false },
  },
});
const minutes = Number(values.minutes);
const seed = Number(values.seed ?? Date.now() % 1_000_000);
if (!(minutes > 0) || !Number.isSafeInteger(seed)) throw new Error("--minutes and --seed must be numbers");

/** Runs this program again where it may make network namespaces; `false` if it may not. */
async function runInside(): Promise<boolean> {
  if (process.env[INSIDE] !== undefined) return false;
  const obstacle = namespaceObstacle();
  if (obstacle !== undefined) {
    console.log(`nobody can be cut off: ${obstacle}`);
    return false;
  }
  const args = [
    process.execPath,
    ...process.execArgv,
    fileURLToPath(import.meta.url),
    ...process.argv.slice(2),
  ];
  if (values.seed === undefined) args.push("--seed", String(seed));
  const child = spawn("unshare", ["-rn", ...args], {
    stdio: "inherit",
    env: { ...process.env, [INSIDE]: "1" },
  });
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => child.kill(signal));
  const [code] = (await once(child, "exit")) as [number | null];
  process.exitCode = code ?? 1;
  return true;
}

class Run {
  readonly #directory = mkdtempSync(join(tmpdir(), "klatsch-chaos-"));
  readonly #historyDir = join(this.#directory, "history");
  readonly #network: Network;
  readonly #cluster: Cluster;
  readonly #harness: HistoryWriter;
  readonly #planned: readonly Planned[];
  #beganMs = 0;
  #faults = 0;
  #isBroken = false;
  #miscounted: readonly Violation[] = [];
  #now: readonly Fault[] = [];

  constructor(network: Network) {
    this.#network = network;
    mkdirSync(this.#historyDir);
    this.#harness = new HistoryWriter(this.#historyDir, "chaos", 0);
    this.#planned = plan(seed, minutes * 60_000);
    this.#cluster = new Cluster({
      directory: this.#directory,
      historyDir: this.#historyDir,
      network,
      seed,
      note: (fact) => this.#harness.write(fact),
    });
  }

  #seconds(): string {
    return `${((performance.now() - this.#beganMs) / 1_000).toFixed(0).padStart(4)} s`;
  }

  #say(text: string): void {
    console.log(`${this.#seconds()}  ${text}`);
    this.#harness.write({ what: "note", text });
  }

  async play(): Promise<number> {
    this.#beganMs = performance.now();
    try {
      await this.#cluster.startAll();
      this.#say(`seed ${seed}: ${NODES.length} nodes, ${this.#planned.length} times of fault`);
      const progress = setInterval(() => this.#tellProgress(), PROGRESS_MS);
      const zeroMs = performance.now();
      for (const { atMs, durationMs, faults } of this.#planned) {
        await delay(Math.max(0, zeroMs + atMs - performance.now()));
        this.#say(`begins: ${faults.map(describe).join(", ")}`);
        this.#now = faults;
        for (const fault of faults) await this.#begin(fault);
        await delay(durationMs);
        for (const fault of faults) await this.#end(fault);
        this.#now = [];
        this.#faults += faults.length;
        this.#say("ends");
      }
      clearInterval(progress);
      const { left, tookMs } = await this.#drain();
      return await this.#judge(left, tookMs);
    } finally {
      await this.#cluster.end();
      this.#network.end();
      if (values.keep || this.#isBroken) console.log(`kept: ${this.#directory}`);
      else rmSync(this.#directory, { recursive: true, force: true });
    }
  }

  async #begin(fault: Fault): Promise<void> {
    switch (fault.type) {
      case "kill":
        await Promise.all(fault.nodes.map((node) => this.#cluster.kill(node)));
        return;
      case "stop":
        for (const node of fault.nodes) this.#cluster.signal(node, "SIGSTOP");
        return;
      case "cut":
        return this.#network.cut(fault.cuts);
      case "clock":
        for (const node of fault.nodes) this.#cluster.tell(node, { type: "clock", stepMs: fault.stepMs });
        return;
      case "truncate":
        for (const node of fault.nodes) {
          await this.#cluster.kill(node);
          this.#cluster.truncate(node, fault.batches);
          await this.#cluster.start(node);
        }
    }
  }

  async #end(fault: Fault): Promise<void> {
    switch (fault.type) {
      case "kill":
        await Promise.all(fault.nodes.map((node) => this.#cluster.start(node)));
        return;
      case "stop":
        for (const node of fault.nodes) this.#cluster.signal(node, "SIGCONT");
        return;
      case "cut":
        return this.#network.heal();
      case "clock":
        for (const node of fault.nodes) this.#cluster.tell(node, { type: "clock", stepMs: 0 });
        return;
      case "truncate":
    }
  }

  #tellProgress(): void {
    const { totals, violations } = check(readHistory(this.#historyDir));
    // The files are not read at one moment: what is missing may be in the part of a file that came after.
    const early = violations.filter(
      ({ rule }) => !["lost", "vanished", "unexpected", "outOfOrder"].includes(rule),
    );
    const { tried, acknowledged, refused, unknown, delivered, redelivered } = totals;
    const faults = this.#now.length === 0 ? "" : `  under ${this.#now.map(describe).join(", ")}`;
    const counts = `tried ${tried}, ok ${acknowledged}, refused ${refused}, unknown ${unknown}`;
    console.log(
      `${this.#seconds()}    ${counts}, delivered ${delivered} (${redelivered} again), ${early.length} violations${faults}`,
    );
  }

  /** All is well again: no more enqueues, and what is left is handed out. */
  async #drain(): Promise<{ readonly left: Record<string, number>; readonly tookMs: number }> {
    const fromMs = performance.now();
    for (const node of NODES) {
      // A delay that was set by a clock an hour ahead is over then.
      this.#cluster.tell(node, { type: "clock", stepMs: AHEAD_MS });
      await this.#cluster.ask(node, { type: "rest" });
    }
    this.#say("all healed, nothing enters any more");
    let left: Record<string, number> = { unanswered: 1 };
    while (performance.now() - fromMs < DRAIN_MS) {
      const counts = (await this.#cluster.ask("c", { type: "left" })) as readonly Left[] | undefined;
      if (counts !== undefined) left = sumOf(counts);
      if (Object.values(left).every((count) => count === 0)) {
        // Whether that is so, the history knows.
        const { violations } = check(readHistory(this.#historyDir));
        const missing = violations.filter(({ rule }) => rule === "lost" || rule === "vanished");
        if (missing.length === 0) break;
        if (this.#miscounted.length === 0) this.#miscounted = miscounted(missing);
      }
      await delay(500);
    }
    if (Object.values(left).some((count) => count > 0)) {
      console.log(JSON.stringify(await this.#cluster.ask("c", { type: "inspect" }), undefined, 2));
    }
    return { left, tookMs: Math.round(performance.now() - fromMs) };
  }

  async #judge(left: Record<string, number>, drainMs: number): Promise<number> {
    await this.#cluster.end();
    const entries = readHistory(this.#historyDir);
    const { totals, violations } = check(entries, left);
    const verdict = { totals, violations: [...violations, ...this.#miscounted] };
    const notes = entries.flatMap((entry) =>
      entry.what === "note" && entry.node !== "chaos" ? [entry.text] : [],
    );
    const kinds = (word: string): number => notes.filter((text) => text.startsWith(word)).length;
    const more = {
      seed,
      minutes,
      faults: this.#faults,
      cutsLeftOut: !this.#network.canCut,
      drainMs,
      endedByThemselves: this.#cluster.ends.length,
      quarantined: kinds("quarantined"),
      protocolFaults: kinds("fault"),
      uncaught: kinds("uncaught"),
      electionErrors: kinds("election"),
    };
    console.log(tableOf({ ...more, ...verdict.totals }, verdict));
    if (values.json !== undefined) {
      writeFileSync(values.json, `${JSON.stringify({ ...more, ...verdict, notes }, undefined, 2)}\n`);
    }
    if (more.uncaught + more.protocolFaults > 0) console.log(notes.filter(isGrave).slice(0, 10).join("\n"));
    if (verdict.violations.length + more.uncaught === 0) return 0;
    this.#isBroken = true;
    console.log(`again: npm run chaos -- --minutes ${minutes} --seed ${seed}`);
    return 1;
  }
}

interface Left {
  readonly ready: number;
  readonly delayed: number;
  readonly leased: number;
  readonly dead: number;
  readonly unserved: number;
  readonly missing: readonly string[];
}

/** Of both queues. */
function sumOf(counts: readonly Left[]): Record<string, number> {
  const sum = (of: (one: Left) => number): number => counts.reduce((total, one) => total + of(one), 0);
  return {
    ready: sum(({ ready }) => ready),
    delayed: sum(({ delayed }) => delayed),
    leased: sum(({ leased }) => leased),
    dead: sum(({ dead }) => dead),
    unserved: sum(({ unserved }) => unserved),
    unanswered: sum(({ missing }) => missing.length),
  };
}

function isGrave(note: string): boolean {
  return note.startsWith("uncaught") || note.startsWith("fault");
}

function tableOf(figures: Readonly<Record<string, unknown>>, { violations }: Verdict): string {
  const rows = Object.entries(figures).map(([name, value]) => `  ${name.padEnd(20)} ${String(value)}`);
  const rules = Object.entries(RULES).map(([rule, text]) => {
    const count = violations.filter((violation) => violation.rule === rule).length;
    return `  ${rule.padEnd(20)} ${String(count).padEnd(6)} ${text}`;
  });
  const some = violations.slice(0, 20).map(({ rule, about, detail }) => `  ${rule}: ${about}: ${detail}`);
  return ["", ...rows, "", "violations:", ...rules, ...some].join("\n");
}

if (!(await runInside())) {
  const inside = process.env[INSIDE] !== undefined;
  process.exitCode = await new Run(inside ? await Bridge.open() : new Loopback()).play();
  process.exit();
}
