import { RTT_CLASS_MAX } from "../core/routing/round-trips.ts";
import type { NodeLinks, OwnLink } from "../core/routing/types.ts";
import type { StateValue } from "../state-types.ts";
import { PEER_PATTERN } from "./record-codec.ts";

/** Key of the entry in which a node tells of its links. */
export const LINKS_KEY = "klatsch/links";

const LINKS_MAX = 4_096;
const FLAGS = { router: 1, overloaded: 2 } as const;

/** What the entry says; the rest is in the member's record. */
export type LinksSaid = Pick<NodeLinks, "router" | "overloaded" | "links">;

/** `[flags, [peer, class, …] or nil for all]`. */
export function encodeLinks(said: LinksSaid): StateValue {
  const flags = (said.router ? FLAGS.router : 0) | (said.overloaded ? FLAGS.overloaded : 0);
  const links =
    said.links === "all" ? null : said.links.flatMap(({ peer, rttClass }): StateValue[] => [peer, rttClass]);
  return [flags, links];
}

/** `undefined` for what no node of ours says. */
export function decodeLinks(value: StateValue | undefined): LinksSaid | undefined {
  if (!isList(value)) return undefined;
  const [flags, links] = value;
  const read = links === null ? "all" : readLinks(links);
  if (typeof flags !== "number" || !Number.isInteger(flags) || read === undefined) return undefined;
  return {
    router: (flags & FLAGS.router) !== 0,
    overloaded: (flags & FLAGS.overloaded) !== 0,
    links: read,
  };
}

function readLinks(value: StateValue | undefined): OwnLink[] | undefined {
  if (!isList(value) || value.length > 2 * LINKS_MAX) return undefined;
  const links: OwnLink[] = [];
  for (let index = 0; index < value.length; index += 2) {
    const [peer, rttClass] = [value[index], value[index + 1]];
    if (typeof peer !== "string" || !PEER_PATTERN.test(peer)) return undefined;
    if (typeof rttClass !== "number" || !(rttClass >= 0 && rttClass <= RTT_CLASS_MAX)) return undefined;
    links.push({ peer, rttClass: Math.floor(rttClass) });
  }
  return links;
}

function isList(value: StateValue | undefined): value is readonly StateValue[] {
  return Array.isArray(value);
}
