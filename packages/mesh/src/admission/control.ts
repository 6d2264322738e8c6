import type { SharedPolicy } from "../host/state-host.ts";
import type { MemberRecord } from "../core/messages.ts";
import type { MeshError } from "../errors.ts";
import type { Announcements } from "./announcements.ts";
import type { AdmissionRules, Refusal } from "./encrypter.ts";

/** What admission asks of the mesh around it. */
export interface AdmissionPorts {
  wallMs(): number;
  monoMs(): number;
  /** Peers with a link. */
  linked(): readonly string[];
  /** Sends a frame of admission on the peer's link; nothing without one. */
  send(peer: string, payload: Uint8Array): void;
  /** Ends every connection with the peer, tunnels included, at once. */
  disconnect(peer: string, reason: string): void;
  refused(peer: string | undefined, refusal: Refusal): void;
  /** A key was revoked, as root or admin says. */
  revoked(peer: string): void;
  /** A member told of another what that one never said. */
  onForged(from: string, subject: string): void;
  /** This node's certificate is about to end: `daysLeft` is 30, 7, 1 or 0. */
  expiring(notAfterWallMs: number, daysLeft: number): void;
  renewed(notAfterWallMs: number): void;
  /** This node cannot be a member any more. */
  failed(error: MeshError): void;
}

/** What is certified of a peer: its certificate, the present renewal taken into account. */
export interface MemberCertificate {
  readonly peerId: string;
  readonly name: string;
  readonly cloud: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly capabilities: readonly string[];
  /** Names this certificate in a revocation. */
  readonly serial: string;
  readonly notBeforeWallMs: number;
  readonly notAfterWallMs: number;
}

/** Who may be in the mesh, and what they may do there. */
export interface MeshAdmission {
  /** `open`: whoever knows the mesh name is in, and may do everything. */
  readonly mode: "open" | "certificate";
  /** 64 hexadecimal digits, the same for ever; `undefined` in an open mesh. */
  readonly meshId: string | undefined;
  /**
   * Whether the peer's certificate grants the capability; ask before doing anything in a peer's name. `false` for a peer
   * that this node never met, or whose certificate holds no more. Always `true` in an open mesh.
   */
  can(peerId: string, capability: string): boolean;
  /** What is certified of this node or of a peer it has met; `undefined` in an open mesh. */
  certificate(peerId: string): MemberCertificate | undefined;
  /**
   * Takes the text of `MeshAuthority.revoke` or `rotate` and tells all members. Resolves once this node has it on disk.
   * @throws MeshError `INVALID_OPTIONS` if the text is not for this mesh; what of it could be taken was taken.
   */
  publish(text: string): Promise<void>;
}

/** Who is let into one node, and what they may do. */
export interface AdmissionControl extends AdmissionRules {
  readonly mode: "open" | "certificate";
  readonly meshId: string | undefined;
  start(): void;
  stop(): void;
  /** Whether the peer has shown what is needed and nothing has ended it since. */
  isAdmitted(peer: string): boolean;
  /** Whether the peer calls itself what it is certified as, and has signed that. */
  isDescribed(record: MemberRecord): boolean;
  /** What members sign of what they say of themselves; nothing in an open mesh. */
  readonly announcements: Announcements | undefined;
  onLinkUp(peer: string): void;
  /** A frame of admission on a link. `false`: it breaks the protocol. */
  onFrame(peer: string, payload: Uint8Array): boolean;
  can(peer: string, capability: string): boolean;
  certificate(peer: string): MemberCertificate | undefined;
  publish(text: string): Promise<void>;
  /** Who may write which shared entry of gossip state. */
  policy(prefixes: Readonly<Record<string, string>> | undefined): SharedPolicy;
}
