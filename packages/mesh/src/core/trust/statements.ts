/** What a mesh's keys say, and how long it holds. Keys are named by the peer id they make, `12D3KooW…`. */

/** Clocks may differ by this much before a certificate that is valid elsewhere is refused here, in milliseconds. */
export const CLOCK_SKEW_MS: number = 5 * 60 * 1_000;
const DAY_MS: number = 24 * 60 * 60 * 1_000;
/** Longest life of one certificate, delegation or renewal, in milliseconds. */
export const CERTIFICATE_LIFE_MS_MAX: number = 400 * DAY_MS;
/**
 * A certificate may be renewed until this long after it began; then root or admin has to issue another. A revocation is
 * kept as long, so nothing it forbids can come back after it.
 */
export const RENEWABLE_MS: number = 2 * CERTIFICATE_LIFE_MS_MAX;
/** Longest time for which a replaced root key still counts, in milliseconds. */
export const ROTATION_OVERLAP_MS_MAX: number = 30 * DAY_MS;
/** Rotations of one mesh. */
export const ROTATIONS_MAX = 32;
/** Capabilities of one certificate. */
export const CAPABILITIES_MAX = 32;
/** All capabilities but `ca`. */
export const ANY_CAPABILITY = "*";
/** The capability to renew other members' certificates: never implied. */
export const CA_CAPABILITY = "ca";

/** When a statement holds, by wall clock. */
export interface Validity {
  readonly notBeforeWallMs: number;
  readonly notAfterWallMs: number;
}

/** Makes a peer a member. */
export interface Certificate extends Validity {
  readonly mesh: string;
  readonly peer: string;
  readonly name: string;
  readonly cloud: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly capabilities: readonly string[];
  /** 128 random bits: what a revocation names that means this certificate and not its key. */
  readonly serial: string;
}

/** The root lets another key issue certificates and revocations. */
export interface Delegation extends Validity {
  readonly mesh: string;
  readonly key: string;
}

/** A member with capability `ca` prolongs a certificate; it cannot change anything else of it. */
export interface Renewal extends Validity {
  readonly mesh: string;
  readonly peer: string;
  readonly serial: string;
}

/** Ends a key (`12D3KooW…`) or one certificate (its serial), for ever. */
export interface Revocation {
  readonly mesh: string;
  readonly subject: string;
  readonly atWallMs: number;
}

/** The pre-committed key takes over as root. */
export interface Rotation {
  readonly mesh: string;
  readonly seq: number;
  /** The new root. It signs this itself, and its hash was committed before. */
  readonly key: string;
  /** SHA-256 of `key`, in hexadecimal digits: computed by whoever decoded this. */
  readonly keyHash: string;
  /** SHA-256 of the root after it. */
  readonly nextHash: string;
  readonly atWallMs: number;
  /** How long the old root still counts, in milliseconds. */
  readonly overlapMs: number;
}

/** The first root of a mesh and the hash of the second: hashed together they are the mesh's id. */
export interface Genesis {
  readonly root: string;
  readonly nextHash: string;
}

/** A statement whose signature was checked when its bytes were decoded. */
export interface Signed<Body> {
  readonly body: Body;
  /** Who signed. */
  readonly signer: string;
  /** SHA-256 of signer and signed bytes, in hexadecimal digits. */
  readonly id: string;
  /** As it travels; opaque here. */
  readonly envelope: string;
}

/** A statement of the root, or of a key that the root delegated to. */
export interface Endorsed<Body> {
  readonly statement: Signed<Body>;
  readonly delegation: Signed<Delegation> | undefined;
}

/** All that a peer shows to be let in. */
export interface Credentials {
  /** Computed from `genesis` by whoever decoded this. */
  readonly mesh: string;
  readonly genesis: Genesis;
  readonly rotations: readonly Signed<Rotation>[];
  readonly certificate: Endorsed<Certificate>;
  readonly renewal: CertificateRenewal | undefined;
}

export interface CertificateRenewal {
  readonly statement: Signed<Renewal>;
  /** The certificate of the member that renewed; root or admin signed it. */
  readonly issuer: Endorsed<Certificate>;
}

/** Whether a statement holds now, give or take a clock that is off. */
export function validityNow(validity: Validity, wallMs: number): "valid" | "EXPIRED" | "NOT_YET_VALID" {
  if (wallMs > validity.notAfterWallMs + CLOCK_SKEW_MS) return "EXPIRED";
  if (wallMs < validity.notBeforeWallMs - CLOCK_SKEW_MS) return "NOT_YET_VALID";
  return "valid";
}

/** Default deny; `*` stands for all but `ca`. */
export function grants(capabilities: readonly string[], capability: string): boolean {
  if (capabilities.includes(capability)) return true;
  return capability !== CA_CAPABILITY && capabilities.includes(ANY_CAPABILITY);
}

/**
 * Why a connection is refused before it is given out. `NO_CERTIFICATE`: an ordinary libp2p node. `TAMPERED`: a signature or
 * the bytes are wrong. `UNTRUSTED_ISSUER`: signed well, by a key this mesh does not trust. `WRONG_PEER`: somebody else's
 * certificate. `FOREIGN_MESH`: another mesh's. `ADMISSION_MODE`: one end is open, the other asks for certificates.
 */
export type AdmissionRefusal =
  | "NO_CERTIFICATE"
  | "TAMPERED"
  | "FOREIGN_MESH"
  | "UNTRUSTED_ISSUER"
  | "WRONG_PEER"
  | "REVOKED"
  | "EXPIRED"
  | "NOT_YET_VALID"
  | "MESH_NAME"
  | "PROTOCOL_VERSION"
  | "ADMISSION_MODE";
