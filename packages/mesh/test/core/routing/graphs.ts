import { randomBelow } from "@klatsch/kit";
import type { Random } from "@klatsch/kit";
import { Router } from "../../../src/core/routing/router.ts";
import type { NodeLinks, Route, RouteClass } from "../../../src/core/routing/types.ts";

/** A network whose links may be other than what its nodes' maps say. */
export class Graph {
  readonly nodes: readonly string[];
  readonly #links = new Set<string>();
  readonly #rtt = new Map<string, number>();
  /** What nodes say of themselves beside their links. */
  readonly said = new Map<string, Partial<NodeLinks>>();

  constructor(size: number) {
    this.nodes = Array.from({ length: size }, (_, index) => `n${index}`);
  }

  /** Connected: a random tree and some links more. */
  static random(random: Random, sizeMax: number): Graph {
    const graph = new Graph(2 + randomBelow(random, sizeMax - 1));
    const { nodes } = graph;
    for (let index = 1; index < nodes.length; index += 1)
      graph.link(nodes[index] ?? "", nodes[randomBelow(random, index)] ?? "", randomBelow(random, 10));
    for (let more = randomBelow(random, nodes.length * 2); more > 0; more -= 1) {
      const [a, b] = [nodes[randomBelow(random, nodes.length)], nodes[randomBelow(random, nodes.length)]];
      if (a !== b) graph.link(a ?? "", b ?? "", randomBelow(random, 10));
    }
    return graph;
  }

  get links(): readonly (readonly [string, string])[] {
    return [...this.#links].map((key) => key.split("-") as [string, string]);
  }

  link(a: string, b: string, rttClass = 4): void {
    this.#links.add(keyOf(a, b));
    this.#rtt.set(keyOf(a, b), rttClass);
  }

  cut(a: string, b: string): void {
    this.#links.delete(keyOf(a, b));
  }

  has(a: string, b: string): boolean {
    return this.#links.has(keyOf(a, b));
  }

  neighbours(node: string): string[] {
    return this.links.flatMap(([a, b]) => (a === node ? [b] : b === node ? [a] : []));
  }

  /** What a node says of itself. */
  entry(peer: string): NodeLinks {
    const links = this.neighbours(peer).map((other) => ({
      peer: other,
      rttClass: this.#rtt.get(keyOf(peer, other)) ?? 0,
    }));
    const about = { cloud: "x", gateway: false, router: true, overloaded: false, reaches: undefined };
    return { peer, ...about, links, ...this.said.get(peer) };
  }

  entries(): NodeLinks[] {
    return this.nodes.map((node) => this.entry(node));
  }

  /** A router at a node that knows the graph as it is now. */
  router(self: string): Router {
    const router = new Router(self);
    router.learn(this.entries());
    return router;
  }

  /** Links from `from` to everybody it can reach, as few as can be. */
  distances(from: string): ReadonlyMap<string, number> {
    const neighbours = new Map(this.nodes.map((node) => [node, this.neighbours(node)]));
    const distances = new Map([[from, 0]]);
    for (const node of distances.keys())
      for (const next of neighbours.get(node) ?? [])
        if (!distances.has(next)) distances.set(next, (distances.get(node) ?? 0) + 1);
    return distances;
  }

  /** Follows a route: the index of the hop whose link to the next is missing, or `undefined` at the end. */
  brokenAt(route: Route): number | undefined {
    const hop = route.findIndex((peer, index) => {
      const next = route[index + 1];
      return next !== undefined && !this.has(peer, next);
    });
    return hop < 0 ? undefined : hop;
  }
}

/** Tries routes as a sender does until one holds; the routes tried, and whether the last one did. */
export function reach(
  graph: Graph,
  router: Router,
  target: string,
  trafficClass: RouteClass,
): { readonly tried: readonly Route[]; readonly reached: boolean } {
  const now = { monoMs: 0, wallMs: 0 };
  const tried: Route[] = [];
  for (;;) {
    const answer = router.route(target, trafficClass, now);
    const isNew = answer.type === "route" && !tried.some((route) => route.join() === answer.route.join());
    if (!isNew) return { tried, reached: false };
    tried.push(answer.route);
    const hop = graph.brokenAt(answer.route);
    if (hop === undefined) return { tried, reached: true };
    router.refused(answer.route, hop, "NOT_DIRECT", now);
  }
}

function keyOf(a: string, b: string): string {
  return a < b ? `${a}-${b}` : `${b}-${a}`;
}
