/** A node of `mesh.ts`: a member that tells when it saw what. */
import { countBuffersAsHeap } from "@klatsch/kit";
import { createMesh } from "@klatsch/mesh";
import type { Member, Mesh } from "@klatsch/mesh";
import { Flow } from "./flow.ts";
import { serve, sharedMs } from "./serve.ts";

/** Nothing takes that long: whoever waits for more has failed, in milliseconds. */
const WAIT_MS_MAX = 60_000;

/** What a node saw happen to another. `back`: alive again, or for the first time. */
export type Sight = "died" | "back";

interface Seen {
  readonly peerId: string;
  readonly sight: Sight;
  readonly atMs: number;
}

/** An entry of gossip state. */
interface Saying {
  readonly key: string;
  readonly value: number;
  readonly shared: boolean;
}

export interface Usage {
  /** User and system time since the process began, in milliseconds. */
  readonly cpuMs: number;
  readonly rssBytes: number;
}

let mesh: Mesh | undefined;
let flow: Flow | undefined;
const seen: Seen[] = [];
const watchers = new Set<() => void>();

function running(started: Flow | undefined): Flow {
  if (started === undefined) throw new Error("not started");
  return started;
}

function note(member: Member, sight: Sight): void {
  seen.push({ peerId: member.peerId, sight, atMs: sharedMs() });
  look();
}

function look(): void {
  for (const watcher of watchers) watcher();
}

/** Resolves with the first answer of `find` that is one, asked now and after each event of the mesh. */
function until<Answer>(what: string, find: () => Answer | undefined): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const end = (then: () => void): void => {
      watchers.delete(ask);
      clearTimeout(timer);
      then();
    };
    const ask = (): void => {
      const answer = find();
      if (answer !== undefined) end(() => resolve(answer));
    };
    const timer = setTimeout(
      () => end(() => reject(new Error(`not after ${WAIT_MS_MAX} ms: ${what}`))),
      WAIT_MS_MAX,
    );
    watchers.add(ask);
    ask();
  });
}

/** Resolves with the time when that many are alive here, this node included. */
function count(what: string, nodes: number, holds: (member: Member) => boolean): Promise<number> {
  return until(what, () => {
    const alive = mesh?.members().filter((member) => member.status === "alive" && holds(member));
    return alive?.length === nodes ? sharedMs() : undefined;
  });
}

const commands = {
  /** Answered once everything is imported. */
  ready(): Promise<{ readonly pid: number }> {
    return Promise.resolve({ pid: process.pid });
  },

  async start(setup: {
    readonly name: string;
    readonly dataDir: string;
    readonly listen: readonly string[];
    readonly bootstrap: readonly string[];
    /** Names of those it may link to; all without. */
    readonly neighbours?: readonly string[] | undefined;
    readonly buffersAsHeap?: boolean;
  }): Promise<{ readonly peerId: string; readonly addresses: readonly string[] }> {
    const { neighbours, buffersAsHeap = false, ...init } = setup;
    if (buffersAsHeap) countBuffersAsHeap();
    mesh = await createMesh({ ...init, mayLink: ({ name }) => neighbours?.includes(name) !== false });
    flow = new Flow(mesh);
    mesh.on("member:joined", (member) => note(member, "back"));
    mesh.on("member:refuted", (member) => note(member, "back"));
    mesh.on("member:died", (member) => note(member, "died"));
    mesh.on("link:up", look);
    mesh.state.watch({}, look);
    mesh.state.shared.watch({}, look);
    mesh.on("mesh:failed", ({ error }) => {
      console.error(error);
      process.exit(1);
    });
    look(); // Whoever came before anybody listened.
    return { peerId: mesh.peerId, addresses: mesh.addresses() };
  },

  /** When the list was full: every member is known and alive. */
  listed({ nodes }: { readonly nodes: number }): Promise<number> {
    return count(`a list of ${nodes}`, nodes, () => true);
  },

  /** When there was a link to every other member, too. */
  linked({ nodes }: { readonly nodes: number }): Promise<number> {
    return count(`links to ${nodes - 1}`, nodes, (member) => member.self || member.linked);
  },

  /** When this node first saw that, not before `sinceMs`. */
  saw({ peerId, sight, sinceMs }: Omit<Seen, "atMs"> & { readonly sinceMs: number }): Promise<number> {
    return until(
      `${peerId} ${sight}`,
      () => seen.find((each) => each.peerId === peerId && each.sight === sight && each.atMs >= sinceMs)?.atMs,
    );
  },

  /** Says something of this node, or writes a shared entry; gives the time before. */
  async say({ key, value, shared }: Saying): Promise<number> {
    const atMs = sharedMs();
    if (shared) await mesh?.state.shared.set(key, value);
    else mesh?.state.set(key, value);
    return atMs;
  },

  /** When this node could read it. */
  heard({ peerId, key, value, shared }: Saying & { readonly peerId: string }): Promise<number> {
    return until(`${key} is ${value}`, () => {
      const state = mesh?.state;
      const known = shared ? state?.shared.get(key) : state?.get(peerId, key);
      return known === value ? sharedMs() : undefined;
    });
  },

  /** How often this node saw others die since it began. */
  deaths(): Promise<number> {
    return Promise.resolve(seen.filter(({ sight }) => sight === "died").length);
  },

  /** When frames to that member were taken: there is a connection and the channel is up. */
  async reach({ peerId }: { readonly peerId: string }): Promise<readonly string[]> {
    const path = await running(flow).reach(peerId);
    return path;
  },

  /** One frame there and back at a time; milliseconds, sorted. */
  roundTrips({
    peerId,
    count: times,
  }: {
    readonly peerId: string;
    readonly count: number;
  }): Promise<number[]> {
    return running(flow).roundTrips(peerId, times);
  },

  /** How long that many bytes take until the last has arrived there, in milliseconds. */
  pour({ peerId, bytes }: { readonly peerId: string; readonly bytes: number }): Promise<number> {
    return running(flow).pour(peerId, bytes);
  },

  /** Frames there and back until `hush`; the longest pause between two answers, in milliseconds. */
  beat({ peerId }: { readonly peerId: string }): Promise<boolean> {
    return Promise.resolve(running(flow).beat(peerId));
  },

  hush(): Promise<number> {
    return Promise.resolve(running(flow).hush());
  },

  /** Answers to `beat` so far. */
  beats(): Promise<number> {
    return Promise.resolve(running(flow).beats);
  },

  usage(): Promise<Usage> {
    const { user, system } = process.cpuUsage();
    return Promise.resolve({ cpuMs: (user + system) / 1_000, rssBytes: process.memoryUsage.rss() });
  },
};

export type MeshCommands = typeof commands;

serve(commands);
