import type { Membership } from "../../../packages/mesh/src/core/membership.ts";
import type { Edit } from "../mutated.ts";
import { loadMutated } from "../mutated.ts";
import type { SCENARIOS } from "./scenarios.ts";
import type { NetworkFlaws } from "./network.ts";

/** One rule of the protocol removed, and the scenario that cannot go well without it. */
export interface MeshMutant {
  readonly what: string;
  /** Changes of the core's source, unless the flaw is its host's. */
  readonly edits: readonly Edit[];
  readonly flaws?: NetworkFlaws;
  readonly scenario: keyof typeof SCENARIOS;
  /** Seeds within which it has to be caught. */
  readonly seeds: number;
}

export const MESH_MUTANTS: Readonly<Record<string, MeshMutant>> = {
  lateTick: {
    what: "nobody notices that it slept",
    edits: [
      {
        file: "context.ts",
        find: "const slept = lateMs > this.times.lateMs;",
        replace: "const slept = gapMs > Infinity;",
      },
    ],
    scenario: "sleepOverSuspicion",
    seeds: 3,
  },
  linksVouch: {
    what: "a link vouches for the member at its other end",
    edits: [
      {
        file: "doubts.ts",
        find: "    if (this.#addAccusation(entry, inc, id, accuser)) this.#context.sendAll(message, from);",
        replace: `    if (entry.linked) {
      if (entry.settledIds?.has(id) !== true) this.#vouch(entry, id);
    } else if (this.#addAccusation(entry, inc, id, accuser)) this.#context.sendAll(message, from);`,
      },
    ],
    scenario: "freezeTwo",
    seeds: 3,
  },
  shortAlone: {
    what: "the shortest suspicion where nobody could confirm it",
    edits: [{ file: "suspicion.ts", find: "counting === 0 ? 0 :", replace: "counting === 0 ? 1 :" }],
    scenario: "stallsAndLossOfTwo",
    seeds: 20,
  },
  staleHeard: {
    what: "a word about an old suspicion ends a new one",
    edits: [
      {
        file: "doubts.ts",
        find: "    if (!settleId(entry, message.id)) return;",
        replace:
          '    if (!settleId(entry, message.id)) { if (entry.suspicion) this.#endSuspicion(entry, "reported"); return; }',
      },
    ],
    scenario: "staleHeard",
    seeds: 3,
  },
  deafToLife: {
    what: "a death is believed by those who hear the member",
    edits: [
      {
        file: "standings.ts",
        find: "now - entry.heardAt <= times.heardMs",
        replace: "now - entry.heardAt < -1",
      },
      { file: "standings.ts", find: "!this.hearsays.agrees(entry)", replace: "this.hearsays.agrees(entry)" },
    ],
    scenario: "falseDeath",
    seeds: 3,
  },
  hearsayKills: {
    what: "a reported death is believed at once by those who do not know better",
    edits: [
      { file: "standings.ts", find: "!this.hearsays.agrees(entry)", replace: "this.hearsays.agrees(entry)" },
    ],
    scenario: "splitAndHeal",
    seeds: 5,
  },
  untold: {
    what: "nobody tells a member that it is held dead",
    edits: [
      {
        file: "hearsay.ts",
        find: '    this.#context.send(entry.record.peer, { type: "views", views: [view] });\n',
        replace: "",
      },
    ],
    scenario: "falseDeath",
    seeds: 3,
  },
  bootFromDisk: {
    what: "a boot is raised by what is on one's own disk only",
    edits: [
      {
        file: "own-standing.ts",
        find: "view.boot > boot && view.boot > this.#askedBoot",
        replace: "view.boot < 0",
      },
    ],
    scenario: "diskGoesBack",
    seeds: 3,
  },
  ageLocal: {
    what: "how long somebody has been dead is not said",
    edits: [
      {
        file: "roster.ts",
        find: "const ageMs = Math.max(0, Math.round(nowMonoMs - entry.endedMonoMs));",
        replace: "const ageMs = Math.min(0, Math.round(nowMonoMs - entry.endedMonoMs)) * 0;",
      },
    ],
    scenario: "forget",
    seeds: 3,
  },
  anybodyJoins: {
    what: "whoever somebody remembers as alive is a member",
    edits: [
      {
        file: "standings.ts",
        find: 'if (view.status === "alive" && view.vouched === true) {',
        replace: 'if (view.status === "alive") {',
      },
    ],
    scenario: "wakeWithGhost",
    seeds: 3,
  },
  vouchAsleep: {
    what: "a sleeper vouches for whom it heard before",
    edits: [
      {
        file: "context.ts",
        find: "if (slept || suspended) this.#wokeAt = this.now + this.times.barMs;",
        replace: "if (suspended) this.#wokeAt = this.now;",
      },
    ],
    scenario: "wakeWithGhost",
    seeds: 3,
  },
  stoppedIsLeft: {
    what: "a planned stop is announced as for good",
    edits: [{ file: "own-standing.ts", find: "self.status = status;", replace: 'self.status = "left";' }],
    scenario: "stop",
    seeds: 1,
  },
  orphans: {
    what: "a member that nobody is linked with is nobody's to judge",
    edits: [
      {
        file: "doubts.ts",
        find: "if (isGuardian || age >= times.orphanMsMax * factor) {",
        replace: "if (this.isNeighbour(entry)) {",
      },
    ],
    scenario: "splitOffFew",
    seeds: 3,
  },
  noRoll: {
    what: "no roll is called where many died",
    edits: [
      {
        file: "roll-call.ts",
        find: "if (isMany && !this.#isRecent)",
        replace: "if (isMany && this.#isRecent)",
      },
    ],
    scenario: "splitOffFewOfMany",
    seeds: 3,
  },
  unwatched: {
    what: "nobody wonders why it is not probed",
    edits: [{ file: "membership.ts", find: "    this.#probes.missWatcher(now);\n", replace: "" }],
    scenario: "cutOffAlone",
    seeds: 3,
  },
  hastyHearsay: {
    what: "a reported death is believed before a busy member can answer",
    edits: [
      { file: "hearsay.ts", find: ">= this.#context.times.hearsayMs", replace: ">= 100" },
      { file: "hearsay.ts", find: ">= times.agreeMs", replace: ">= 100" },
    ],
    scenario: "healWhileBusy",
    seeds: 3,
  },
  oldRefusal: {
    what: "alone, one convicts by a refusal from before",
    edits: [
      {
        file: "doubts.ts",
        find: "if (now - entry.refusedLastAt > times.redialMs) {",
        replace: "if (now < entry.refusedLastAt) {",
      },
    ],
    scenario: "mendedAndAlone",
    seeds: 3,
  },
  refusedForEver: {
    what: "who was wrong about a member that refuses it finds it gone again",
    edits: [{ file: "doubts.ts", find: " || entry.isHidden) return;", replace: ") return;" }],
    scenario: "chainOfWalls",
    seeds: 5,
  },
  saidOnce: {
    what: "a member is told once that it is held dead",
    edits: [{ file: "membership.ts", find: "      else this.#standings.remind(entry);\n", replace: "" }],
    scenario: "lostRefutation",
    seeds: 3,
  },
  notMine: {
    what: "who alone hears a member goes on watching it as seldom as before",
    edits: [
      {
        file: "hearsay.ts",
        find: "    if (entry.round === undefined) this.#probes.hasten(entry, now);\n",
        replace: "",
      },
    ],
    scenario: "regroup",
    seeds: 3,
  },
  duplicateClose: {
    what: "the end of a duplicate connection is taken for the link's",
    edits: [],
    flaws: { duplicateCloses: true },
    scenario: "duplicates",
    seeds: 3,
  },
  eofRefuses: {
    what: "a connection that is accepted and says nothing is taken for a refusal",
    edits: [],
    flaws: { silenceRefuses: true },
    scenario: "stallWithoutLinks",
    seeds: 5,
  },
  oldSilence: {
    what: '"is it gone?" is answered from silence so far',
    edits: [
      {
        file: "inquiries.ts",
        find: "this.#open.push({ id, entry, boot, startedAt: now });",
        replace: "this.#open.push({ id, entry, boot, startedAt: entry.heardAt });",
      },
    ],
    scenario: "inquire",
    seeds: 1,
  },
};

/** The mutant's core, or the real one where only its host is flawed. */
export async function loadMeshMutant(
  id: string,
  edits: readonly Edit[],
): Promise<typeof Membership | undefined> {
  if (edits.length === 0) return undefined;
  const loaded = await loadMutated({ of: "mesh", name: id, edits, module: "membership.ts" });
  return loaded["Membership"] as typeof Membership;
}
