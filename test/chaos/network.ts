/** Where the nodes live, and how they are kept from hearing each other. */
import { execFileSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { openNamespace, runIn } from "../netns/namespace.ts";
import { NODES } from "./schedule.ts";
import type { Cut, NodeName } from "./schedule.ts";

const NOWHERE = "02:00:00:00:00:00";
const PORT = 4_001;

export interface Network {
  /** Whether `cut` does anything. */
  readonly canCut: boolean;
  listenAddress(node: NodeName): string;
  /** The command that runs a program at the node's place. */
  at(node: NodeName): readonly string[];
  /** From now on nothing gets from one to the other, and nobody is told: bytes vanish. */
  cut(cuts: readonly Cut[]): void;
  heal(): void;
  end(): void;
}

/** All on loopback: nobody can be cut off. */
export class Loopback implements Network {
  readonly canCut = false;

  listenAddress(): string {
    return "/ip4/127.0.0.1/tcp/0";
  }

  at(): readonly string[] {
    return [];
  }

  cut(): void {
    // On purpose.
  }

  heal(): void {
    // On purpose.
  }

  end(): void {
    // On purpose.
  }
}

/** A namespace for each node, all on one bridge. A cut gives one node a wrong hardware address of another. */
export class Bridge implements Network {
  readonly canCut = true;
  readonly #holders = new Map<NodeName, ChildProcess>();
  #cuts: readonly Cut[] = [];

  static async open(): Promise<Bridge> {
    const bridge = new Bridge();
    execFileSync("ip", ["link", "add", "chaos", "type", "bridge"]);
    execFileSync("ip", ["link", "set", "chaos", "up"]);
    for (const node of NODES) await bridge.#add(node);
    return bridge;
  }

  async #add(node: NodeName): Promise<void> {
    const holder = await openNamespace();
    this.#holders.set(node, holder);
    const inner = ["peer", "name", "net", "netns", String(holder.pid)];
    execFileSync("ip", ["link", "add", `to-${node}`, "type", "veth", ...inner]);
    execFileSync("ip", ["link", "set", `to-${node}`, "master", "chaos"]);
    execFileSync("ip", ["link", "set", `to-${node}`, "up"]);
    runIn(holder, "ip", "addr", "add", `${addressOf(node)}/24`, "dev", "net");
    runIn(holder, "ip", "link", "set", "net", "up");
  }

  #holder(node: NodeName): ChildProcess {
    const holder = this.#holders.get(node);
    if (holder === undefined) throw new Error(`no namespace of ${node}`);
    return holder;
  }

  listenAddress(node: NodeName): string {
    return `/ip4/${addressOf(node)}/tcp/${PORT}`;
  }

  at(node: NodeName): readonly string[] {
    return ["nsenter", "-t", String(this.#holder(node).pid), "-n"];
  }

  cut(cuts: readonly Cut[]): void {
    for (const [from, to] of cuts) {
      const wrong = ["lladdr", NOWHERE, "nud", "permanent", "dev", "net"];
      runIn(this.#holder(from), "ip", "neigh", "replace", addressOf(to), ...wrong);
    }
    this.#cuts = [...this.#cuts, ...cuts];
  }

  heal(): void {
    for (const [from, to] of this.#cuts) {
      runIn(this.#holder(from), "ip", "neigh", "del", addressOf(to), "dev", "net");
    }
    this.#cuts = [];
  }

  end(): void {
    for (const holder of this.#holders.values()) holder.kill("SIGKILL");
  }
}

function addressOf(node: NodeName): string {
  return `10.7.0.${NODES.indexOf(node) + 1}`;
}
