import { excerpt } from "@klatsch/kit";
import type { MemberSnapshot } from "../core/membership-types.ts";
import { MeshError } from "../errors.ts";
import type { Member } from "../types.ts";
import type { Links } from "./links.ts";

/** A member as applications see it. */
export function memberOf(snapshot: MemberSnapshot, links: Links | undefined, nowWallMs: number): Member {
  const { record, status, evidence, linked, roundTripMs, heardAgoMs } = snapshot;
  return Object.freeze({
    peerId: record.peer,
    name: record.name,
    cloud: record.cloud,
    tags: record.tags,
    boot: record.boot,
    incarnation: record.inc,
    status,
    evidence,
    self: evidence === "self",
    linked,
    conduit: linked ? links?.conduit(record.peer) : undefined,
    roundTripMs,
    addresses: record.addresses,
    lastHeardWallMs: heardAgoMs === undefined ? undefined : Math.round(nowWallMs - heardAgoMs),
  });
}

/** The one member of this name that may still be there. @throws MeshError `UNKNOWN_NAME`, `AMBIGUOUS_NAME`. */
export function peerCalled(name: string, members: readonly Member[]): string {
  const holders = members.filter(
    (member) => member.name === name && member.status !== "dead" && member.status !== "left",
  );
  const [holder] = holders;
  if (holder === undefined)
    throw new MeshError("UNKNOWN_NAME", `no member is called ${excerpt(name)}`, { retryable: true });
  if (holders.length === 1) return holder.peerId;
  const peers = holders.map((member) => member.peerId).join(", ");
  throw new MeshError("AMBIGUOUS_NAME", `several members are called ${name}: ${peers}; use a peer id`);
}
