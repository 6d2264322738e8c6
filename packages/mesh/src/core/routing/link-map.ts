import type { NodeLinks, OwnLink } from "./types.ts";

/** What a link counts for whose round trip nobody has told: up to 4 ms. */
export const RTT_CLASS_UNKNOWN = 4;

interface MapNode {
  readonly said: NodeLinks;
  /** `undefined`: all. */
  readonly links: ReadonlyMap<string, OwnLink> | undefined;
}

/** Who is linked with whom, put together from what every node says of its own links. */
export class LinkMap {
  readonly #self: string;
  readonly #nodes = new Map<string, MapNode>();

  /** `self` is this node's peer id: its own links count without the other end's word, since it has them itself. */
  constructor(self: string) {
    this.#self = self;
  }

  /** Takes what a node says of itself in place of what it said before. */
  learn(said: NodeLinks): void {
    const links = said.links === "all" ? undefined : new Map(said.links.map((link) => [link.peer, link]));
    this.#nodes.set(said.peer, { said, links });
  }

  node(peer: string): NodeLinks | undefined {
    return this.#nodes.get(peer)?.said;
  }

  /** A node's links that count, those that the other end lists too. The slower class of the two holds. */
  links(peer: string): OwnLink[] {
    const counted: OwnLink[] = [];
    for (const other of this.listed(peer)) {
      const rttClass = other === peer ? undefined : this.rttClass(peer, other);
      if (rttClass !== undefined) counted.push({ peer: other, rttClass });
    }
    return counted;
  }

  /** Whom a node says it is linked with, itself among them perhaps. */
  listed(peer: string): Iterable<string> {
    const node = this.#nodes.get(peer);
    return node === undefined ? [] : (node.links?.keys() ?? this.#nodes.keys());
  }

  /** The class of a link that counts, seen from either end; `undefined` for any other. */
  rttClass(from: string, to: string): number | undefined {
    const there = this.#listed(from, to);
    const back = this.#listed(to, from) ?? (from === this.#self ? there : undefined);
    return there === undefined || back === undefined ? undefined : Math.max(there, back);
  }

  #listed(from: string, to: string): number | undefined {
    const node = this.#nodes.get(from);
    if (node === undefined || !this.#nodes.has(to)) return undefined;
    return node.links === undefined ? RTT_CLASS_UNKNOWN : node.links.get(to)?.rttClass;
  }
}
