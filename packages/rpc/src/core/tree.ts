/** One member in a gather; opaque here. */
export type Peer = string;

/** Who has a link with whom, as far as is known. */
export type Neighbours = (peer: Peer) => readonly Peer[];

/**
 * Subtrees, one after the other, each beginning with the one who is asked first and passes it on to the rest.
 * `sizes`: of the subtree that begins at each place. So `[a, b, c]` with `[2, 1, 1]` is: a, who asks b; and c.
 */
export interface Forest {
  readonly peers: readonly Peer[];
  readonly sizes: readonly number[];
}

/**
 * A tree below `self` over all members, nobody asking more than `fanout`. It grows along links, level by level, so
 * that who asks whom has a link and no question goes back and forth; whom no link reaches is asked by whoever is
 * nearest to `self` and may ask more.
 */
export function plant(self: Peer, members: readonly Peer[], fanout: number, neighbours: Neighbours): Forest {
  const left = new Set(members);
  const near = neighbours(self).filter((peer) => left.has(peer));
  // All are neighbours, so any tree will do: nobody needs to be looked up.
  const linked: Neighbours = near.length === left.size ? () => [] : neighbours;
  const below = new Map<Peer, Peer[]>([[self, []]]);
  const take = (parent: Peer[], peer: Peer): void => {
    left.delete(peer);
    parent.push(peer);
    below.set(peer, []);
  };
  for (const [peer, children] of below) {
    for (const next of linked(peer)) {
      if (children.length === fanout) break;
      if (left.has(next)) take(children, next);
    }
  }
  for (const [, children] of below) {
    for (const next of left) {
      if (children.length === fanout) break;
      take(children, next);
      // It has links of its own, which may reach others that are left.
      for (const other of linked(next)) if (left.has(other)) adopt(below.get(next), other, fanout, take);
    }
  }
  return inOrder(self, below);
}

function adopt(
  children: Peer[] | undefined,
  peer: Peer,
  fanout: number,
  take: (parent: Peer[], peer: Peer) => void,
): void {
  if (children !== undefined && children.length < fanout) take(children, peer);
}

/** Each before its own, and how many each has, itself included. */
function inOrder(self: Peer, below: ReadonlyMap<Peer, readonly Peer[]>): Forest {
  const peers: Peer[] = [];
  const stack = (below.get(self) ?? []).toReversed();
  for (let peer = stack.pop(); peer !== undefined; peer = stack.pop()) {
    peers.push(peer);
    stack.push(...(below.get(peer) ?? []).toReversed());
  }
  const counted = new Map<Peer, number>();
  for (const peer of peers.toReversed()) {
    const own = below.get(peer) ?? [];
    counted.set(
      peer,
      own.reduce((sum, child) => sum + (counted.get(child) ?? 0), 1),
    );
  }
  return { peers, sizes: peers.map((peer) => counted.get(peer) ?? 1) };
}

/** The subtrees of a forest; `undefined` if its sizes do not fit, or there are more than `fanout`. */
export function subtreesOf({ peers, sizes }: Forest, fanout: number): readonly Forest[] | undefined {
  if (sizes.length !== peers.length) return undefined;
  const subtrees: Forest[] = [];
  for (let at = 0; at < peers.length;) {
    const size = sizes[at] as number;
    if (size < 1 || at + size > peers.length || subtrees.length === fanout) return undefined;
    subtrees.push({ peers: peers.slice(at, at + size), sizes: sizes.slice(at, at + size) });
    at += size;
  }
  return subtrees;
}
