import { SeededRandom, randomBelow } from "@klatsch/kit";
import { describe, expect, it, vi } from "vitest";
import { LinkMap } from "../../../src/core/routing/link-map.ts";
import { HOLD_MS, Router } from "../../../src/core/routing/router.ts";
import { HOPS_MAX } from "../../../src/core/routing/types.ts";
import type { NodeLinks, Route, RouteClass } from "../../../src/core/routing/types.ts";
import { Graph, reach } from "./graphs.ts";

/** `npm run test:routing` takes 10,000: about a minute. */
const GRAPHS = Number(process.env["ROUTING_GRAPHS"] ?? 300);
const CLASSES: readonly RouteClass[] = ["high", "normal", "bulk"];
const at = (monoMs: number): { readonly monoMs: number; readonly wallMs: number } => ({ monoMs, wallMs: 0 });

function routeOf(router: Router, target: string, trafficClass: RouteClass = "normal", nowMs = 0): Route {
  const answer = router.route(target, trafficClass, at(nowMs));
  if (answer.type === "none") throw new Error(answer.code);
  return answer.route;
}

/** a–b–d and a–c–d, the way over b being the shorter. */
function diamond(): Graph {
  const graph = new Graph(4);
  graph.link("n0", "n1", 2);
  graph.link("n1", "n3", 2);
  graph.link("n0", "n2", 6);
  graph.link("n2", "n3", 6);
  return graph;
}

function isProper(route: Route, source: string, target: string): boolean {
  const isShort = route.length <= HOPS_MAX + 1 && new Set(route).size === route.length;
  return isShort && route[0] === source && route.at(-1) === target;
}

describe("Router", () => {
  it("looks each of a thousand up a few times at most, though all say that they are linked with all", () => {
    const peers = Array.from({ length: 1_000 }, (_, no) => `n${no}`);
    const said = { cloud: "default", gateway: true, reaches: undefined, router: true, overloaded: false };
    const router = new Router("n0");
    // But for n999, whom nobody reaches.
    const links = (peer: string): NodeLinks["links"] =>
      peer === "n0" ? peers.slice(1, 999).map((other) => ({ peer: other, rttClass: 1 })) : "all";
    router.learn(peers.map((peer) => ({ ...said, peer, links: peer === "n999" ? [] : links(peer) })));
    const looks = vi.spyOn(LinkMap.prototype, "rttClass");
    expect(routeOf(router, "n7")).toEqual(["n0", "n7"]);
    expect(router.route("n999", "normal", at(0))).toEqual({ type: "none", code: "NO_ROUTE" });
    expect(looks.mock.calls.length).toBeLessThan(10_000);
    looks.mockRestore();
  });

  it(`always reaches whom it can, by routes without repeats, in ${GRAPHS} random graphs with links cut`, () => {
    const random = new SeededRandom(1);
    let pairs = 0;
    let rerouted = 0;
    for (let run = 0; run < GRAPHS; run += 1) {
      const graph = Graph.random(random, 20);
      const known = graph.entries();
      const cuts = randomBelow(random, graph.links.length + 1);
      // Half of the runs is sent with maps that hold; in the others, links break that maps still show.
      for (let cut = run % 2 === 1 ? 0 : cuts; cut < cuts; cut += 1) {
        const [a, b] = graph.links[randomBelow(random, graph.links.length)] ?? ["", ""];
        graph.cut(a, b);
      }
      const trafficClass = CLASSES[run % CLASSES.length] ?? "normal";
      for (const source of graph.nodes) {
        const router = new Router(source);
        router.learn(known);
        const distances = graph.distances(source);
        for (const target of graph.nodes) {
          if (target === source) continue;
          const { tried, reached } = reach(graph, router, target, trafficClass);
          const isNear = (distances.get(target) ?? Infinity) <= HOPS_MAX;
          if (reached !== isNear) throw new Error(`run ${run}: ${source} to ${target} ${reached}`);
          if (!tried.every((route) => isProper(route, source, target)))
            throw new Error(`run ${run}: ${tried.join(" or ")}`);
          // Each try that failed has taught one broken link.
          if (tried.length > cuts + 1) throw new Error(`run ${run}: ${tried.length} tries`);
          pairs += 1;
          rerouted += tried.length > 1 ? 1 : 0;
        }
      }
    }
    expect(pairs).toBeGreaterThan(GRAPHS * 50);
    expect(rerouted).toBeGreaterThan(GRAPHS);
  }, 600_000);

  it("counts a link only if both ends list it", () => {
    const graph = diamond();
    const router = graph.router("n0");
    const told = (links: NodeLinks["links"]): void => {
      router.learn([...graph.entries(), { ...graph.entry("n3"), links }]);
    };
    told([{ peer: "n2", rttClass: 6 }]);
    expect(routeOf(router, "n3")).toEqual(["n0", "n2", "n3"]);
    told([]);
    expect(router.route("n3", "normal", at(0))).toEqual({ type: "none", code: "NO_ROUTE" });
  });

  it("takes who lists all to list whoever lists it", () => {
    const graph = diamond();
    for (const node of ["n1", "n2"]) graph.said.set(node, { links: "all" });
    const router = graph.router("n0");
    expect(routeOf(router, "n3")).toEqual(["n0", "n1", "n3"]); // n3 lists n1.
    graph.cut("n1", "n3");
    graph.cut("n0", "n2");
    router.learn(graph.entries());
    expect(routeOf(router, "n3")).toEqual(["n0", "n1", "n2", "n3"]); // Both list all.
  });

  it("counts its own links without the other end's word", () => {
    const graph = new Graph(3);
    graph.link("n0", "n1");
    const router = graph.router("n0");
    router.learn([...graph.entries(), { ...graph.entry("n1"), links: [] }]);
    expect(routeOf(router, "n1")).toEqual(["n0", "n1"]);
  });

  it("keeps to 16 links where the cheapest route has more", () => {
    const graph = new Graph(20);
    for (let index = 0; index < 19; index += 1) graph.link(`n${index}`, `n${index + 1}`, 0);
    const router = graph.router("n0");
    expect(router.route("n19", "normal", at(0)).type).toBe("none");
    expect(routeOf(router, "n16").length).toBe(17);
    graph.link("n0", "n10", 14);
    expect(routeOf(graph.router("n0"), "n19")).toEqual(["n0", ...graph.nodes.slice(10)]);
  });

  it("holds down the relays of a route that was lost, and takes them again after a while", () => {
    const router = diamond().router("n0");
    const first = routeOf(router, "n3");
    expect(first).toEqual(["n0", "n1", "n3"]);
    router.lost(first, at(0));
    expect(routeOf(router, "n3")).toEqual(["n0", "n2", "n3"]);
    expect(routeOf(router, "n3", "high", HOLD_MS)).toEqual(first);
  });

  it("takes relays that are held down where nobody else is left", () => {
    const graph = diamond();
    graph.cut("n0", "n2");
    const router = graph.router("n0");
    router.lost(["n0", "n1", "n3"], at(0));
    expect(routeOf(router, "n3")).toEqual(["n0", "n1", "n3"]);
  });

  it("believes a hop about its own link only, and not for ever", () => {
    const graph = new Graph(5); // 0–1–2–4 and 1–3–4
    for (const [a, b] of ["01", "12", "24", "13", "34"].map((pair) => pair.split("")))
      graph.link(`n${a}`, `n${b}`);
    const router = graph.router("n0");
    const [, , third] = routeOf(router, "n4");
    router.refused(["n0", "n1", third ?? "", "n4"], 1, "NOT_DIRECT", at(0));
    const [, , other] = routeOf(router, "n4");
    expect([third, other].toSorted()).toEqual(["n2", "n3"]);
    // The link beyond is not what it spoke of.
    expect(routeOf(router, third ?? "")).toEqual(["n0", "n1", other, "n4", third]);
    expect(routeOf(router, third ?? "", "high", HOLD_MS)).toEqual(["n0", "n1", third]);
  });

  it("takes a link that its own end refused where nobody else is left, be the others held down", () => {
    const router = diamond().router("n0");
    router.refused(["n0", "n1", "n3"], 1, "NOT_DIRECT", at(0));
    router.lost(["n0", "n2", "n3"], at(0));
    expect(routeOf(router, "n3")).toEqual(["n0", "n2", "n3"]);
    router.refused(["n0", "n2", "n3"], 1, "STOPPED", at(0));
    expect(routeOf(router, "n3")).toEqual(["n0", "n1", "n3"]);
  });

  it("asks a full relay last, and one that carries nothing not at all", () => {
    const router = diamond().router("n0");
    router.refused(["n0", "n1", "n3"], 1, "RELAY_FULL", at(0));
    expect(routeOf(router, "n3")).toEqual(["n0", "n2", "n3"]);
    router.refused(["n0", "n2", "n3"], 1, "NO_ROUTE", at(0));
    expect(routeOf(router, "n3")).toEqual(["n0", "n1", "n3"]);
    router.refused(["n0", "n1", "n3"], 1, "STOPPED", at(0));
    expect(router.route("n3", "normal", at(0)).type).toBe("none");
    router.forgive("n2");
    expect(routeOf(router, "n3")).toEqual(["n0", "n2", "n3"]);
  });

  it("stays on its route until another one is clearly cheaper", () => {
    const graph = diamond();
    graph.link("n0", "n1", 6);
    graph.link("n0", "n2", 5);
    const router = graph.router("n0");
    expect(routeOf(router, "n3")).toEqual(["n0", "n1", "n3"]);
    const change = (rttClass: number): void => {
      graph.link("n1", "n3", rttClass);
      router.learn(graph.entries());
    };
    change(6); // 36 by now, and the other way 28.
    expect(routeOf(router, "n3")).toEqual(["n0", "n1", "n3"]);
    change(7); // 52
    expect(routeOf(router, "n3")).toEqual(["n0", "n2", "n3"]);
    change(4); // 24: not back at once either.
    expect(routeOf(router, "n3")).toEqual(["n0", "n2", "n3"]);
  });

  it("goes around busy nodes, and with bulk around gateways, even by more links", () => {
    const graph = diamond();
    graph.said.set("n1", { overloaded: true });
    expect(routeOf(graph.router("n0"), "n3", "bulk")).toEqual(["n0", "n2", "n3"]);
    graph.said.set("n1", { gateway: true });
    expect(routeOf(graph.router("n0"), "n3", "bulk")).toEqual(["n0", "n2", "n3"]);
    expect(routeOf(graph.router("n0"), "n3", "high")).toEqual(["n0", "n1", "n3"]);
  });

  it("never goes through nodes that carry nothing for others, but to them", () => {
    const graph = diamond();
    graph.said.set("n1", { router: false });
    const router = graph.router("n0");
    expect(routeOf(router, "n3")).toEqual(["n0", "n2", "n3"]);
    expect(routeOf(router, "n1")).toEqual(["n0", "n1"]);
  });
});

describe("the cloud policy", () => {
  /** x: n0–n1, y: n2–n3, joined by n1–n2, and by a shorter way of nodes that are no gateways: n0–n4–n3. */
  function twoClouds(): Graph {
    const graph = new Graph(5);
    graph.link("n0", "n1", 6);
    graph.link("n1", "n2", 6);
    graph.link("n2", "n3", 6);
    graph.link("n0", "n4", 1);
    graph.link("n4", "n3", 1);
    graph.said.set("n1", { gateway: true });
    graph.said.set("n2", { gateway: true, cloud: "y" });
    graph.said.set("n3", { cloud: "y" });
    return graph;
  }

  it("lets gateways alone carry between clouds", () => {
    const router = twoClouds().router("n0");
    expect(routeOf(router, "n3")).toEqual(["n0", "n1", "n2", "n3"]);
    expect(routeOf(router, "n4")).toEqual(["n0", "n4"]);
  });

  it("lets the ends use links of their own between clouds", () => {
    expect(routeOf(twoClouds().router("n4"), "n3")).toEqual(["n4", "n3"]);
  });

  it("forbids what either cloud does not want", () => {
    for (const unwilling of ["n0", "n3"]) {
      const graph = twoClouds();
      graph.said.set(unwilling, { cloud: unwilling === "n3" ? "y" : "x", reaches: ["z"] });
      expect(graph.router("n0").route("n3", "high", at(0))).toEqual({ type: "none", code: "FORBIDDEN" });
    }
    const graph = twoClouds();
    graph.said.set("n0", { reaches: ["y"] });
    expect(routeOf(graph.router("n0"), "n3")).toEqual(["n0", "n1", "n2", "n3"]);
  });

  it("takes no gateway whose own cloud does not want the other", () => {
    const graph = twoClouds();
    graph.said.set("n1", { gateway: true, reaches: [] });
    expect(graph.router("n0").route("n3", "high", at(0)).type).toBe("none");
  });
});
