import type { Clock, Logger } from "@klatsch/kit";
import type { Membership } from "../core/membership.ts";
import type { Hello, MemberRecord, RefusalCode } from "../core/messages.ts";

/** Clocks this far apart are worth a warning, in milliseconds. */
const CLOCK_WARNING_MS = 60_000;

/** What is answered to a hello; `later`: the connection ends without a word, and the peer will come again. */
type Answer =
  | { readonly knownBoot: number }
  | { readonly code: RefusalCode; readonly detail: string }
  | "later";

interface GreetingPorts {
  readonly mesh: string;
  readonly name: string;
  readonly membersMax: number;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly membership: Membership;
  isDescribed(record: MemberRecord): boolean;
  mayLink(record: MemberRecord): boolean;
  /** The peer knows a higher boot of this node. */
  hearBoot(boot: number): void;
}

/** Whether a peer that says hello may have a link. */
export function answerHello(
  hello: Hello,
  { isGuest, direct }: { readonly isGuest: boolean; readonly direct: boolean },
  ports: GreetingPorts,
): Answer {
  const { mesh, name, membersMax, clock, logger, membership } = ports;
  const { peer } = hello.record;
  if (hello.mesh !== mesh) return { code: "MESH_NAME", detail: `this is mesh ${mesh}, not ${hello.mesh}` };
  if (!ports.isDescribed(hello.record)) {
    return { code: "UNCERTIFIED", detail: "name, cloud or tags are not what the certificate says" };
  }
  if (direct && !ports.mayLink(hello.record)) {
    return { code: "FORBIDDEN", detail: `no direct links between ${name} and ${hello.record.name}` };
  }
  const aheadMs = hello.wallMs - clock.now().wallMs;
  if (Math.abs(aheadMs) > CLOCK_WARNING_MS) {
    logger.warn("the clock of a peer differs from ours", { peerId: peer, aheadMs });
  }
  if (!membership.hasRoomFor(peer)) {
    return { code: "MEMBERS_MAX", detail: `this node knows ${membersMax} members already` };
  }
  if (isGuest && !membership.admits(peer, hello.record.cloud))
    return { code: "BUSY", detail: "this node has all the links it takes" };
  if (hello.knownBoot > membership.self.boot) {
    ports.hearBoot(hello.knownBoot);
    return "later";
  }
  return { knownBoot: membership.member(peer)?.record.boot ?? 0 };
}
