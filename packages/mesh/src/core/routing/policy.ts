import type { NodeLinks } from "./types.ts";

/** What a cloud policy depends on. */
type CloudMember = Pick<NodeLinks, "cloud" | "reaches">;

/** Whether two members may exchange traffic: each one's cloud must want the other's. */
export function mayTalk(a: CloudMember, b: CloudMember): boolean {
  return mayReach(a, b.cloud) && mayReach(b, a.cloud);
}

/** Whether a member's cloud may exchange traffic with another, as far as it is concerned. */
export function mayReach(member: CloudMember, cloud: string): boolean {
  return member.cloud === cloud || member.reaches === undefined || member.reaches.includes(cloud);
}

/**
 * Whether a node may carry traffic from one neighbour to another: between clouds only gateways do, at both
 * ends of the link that crosses.
 */
export function mayCarry(
  relay: Pick<NodeLinks, "cloud" | "gateway" | "router">,
  fromCloud: string,
  toCloud: string,
): boolean {
  return relay.router && (relay.gateway || (fromCloud === relay.cloud && toCloud === relay.cloud));
}
