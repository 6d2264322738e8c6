import { isOutlived, Revocations } from "./revocations.ts";
import { RootChain } from "./root-chain.ts";
import { CA_CAPABILITY, CLOCK_SKEW_MS, grants, RENEWABLE_MS, validityNow } from "./statements.ts";
import type {
  Certificate,
  CertificateRenewal,
  Credentials,
  Endorsed,
  Genesis,
  Revocation,
  Rotation,
  Signed,
  Validity,
} from "./statements.ts";

/** Why credentials are refused. `UNTRUSTED_ISSUER`: signed well, but by a key that this mesh does not trust. */
export type CredentialsRefusal =
  | "FOREIGN_MESH"
  | "UNTRUSTED_ISSUER"
  | "WRONG_PEER"
  | "REVOKED"
  | "EXPIRED"
  | "NOT_YET_VALID";

/** A peer that is let in. */
export interface Admitted {
  readonly credentials: Credentials;
  readonly certificate: Certificate;
  /** Until when, renewal included and its issuer's own end respected. */
  readonly notAfterWallMs: number;
}

export type Verdict =
  | { readonly admitted: Admitted }
  | { readonly code: CredentialsRefusal; readonly validity: Validity | undefined };

/** How new word of a revocation or rotation was taken. */
export type Learnt = "added" | "known" | "forked" | "full" | "refused";

/** What one node holds for true about a mesh's keys, and what follows for a peer's credentials. Pure. */
export class Trust {
  readonly mesh: string;
  readonly roots: RootChain;
  readonly revocations: Revocations = new Revocations();

  constructor(mesh: string, genesis: Genesis) {
    this.mesh = mesh;
    this.roots = new RootChain(mesh, genesis);
  }

  rotate(rotation: Signed<Rotation>): Learnt {
    return this.roots.add(rotation);
  }

  revoke(entry: Endorsed<Revocation>, wallMs: number): Learnt {
    const { body } = entry.statement;
    if (body.mesh !== this.mesh) return "refused";
    if (this.revocations.isKnown(entry.statement.id)) return "known";
    // One from the future could never be let go of.
    if (body.atWallMs > wallMs + CLOCK_SKEW_MS || isOutlived(body, wallMs)) return "refused";
    // A delegation need only have held then: what an admin revoked stays so when its key has run out.
    if (this.#endorsement(entry, wallMs, body.atWallMs) !== undefined) return "refused";
    return this.revocations.add(entry);
  }

  /** Whether `peer` is let in by these credentials now. Rotations among them are learnt, whoever shows them. */
  judge(credentials: Credentials, peer: string, wallMs: number): Verdict {
    if (credentials.mesh !== this.mesh) return refused("FOREIGN_MESH");
    for (const rotation of credentials.rotations) this.rotate(rotation);
    const { certificate, renewal } = credentials;
    const { body } = certificate.statement;
    if (body.mesh !== this.mesh) return refused("FOREIGN_MESH");
    const unendorsed = this.#endorsement(certificate, wallMs);
    if (unendorsed !== undefined) return refused(unendorsed, certificate.delegation?.body);
    if (body.peer !== peer) return refused("WRONG_PEER");
    if (this.#isRevoked(body)) return refused("REVOKED");
    const prolonged = this.#prolonged(body, renewal, wallMs);
    const validity = {
      notBeforeWallMs: body.notBeforeWallMs,
      notAfterWallMs: Math.max(body.notAfterWallMs, prolonged),
    };
    const now = validityNow(validity, wallMs);
    if (now !== "valid") return refused(now, validity);
    const delegatedWallMs = certificate.delegation?.body.notAfterWallMs ?? Infinity;
    const notAfterWallMs = Math.min(validity.notAfterWallMs, delegatedWallMs);
    return { admitted: { credentials, certificate: body, notAfterWallMs } };
  }

  /** Whether root or an admin signed it; the reason if not. */
  #endorsement(
    { statement, delegation }: Endorsed<unknown>,
    wallMs: number,
    delegatedWallMs: number = wallMs,
  ): CredentialsRefusal | undefined {
    if (this.roots.isTrusted(statement.signer, wallMs)) return undefined;
    if (delegation === undefined || delegation.body.key !== statement.signer) return "UNTRUSTED_ISSUER";
    if (delegation.body.mesh !== this.mesh || !this.roots.isTrusted(delegation.signer, wallMs))
      return "UNTRUSTED_ISSUER";
    if (this.revocations.has(delegation.body.key, true)) return "REVOKED";
    const then = validityNow(delegation.body, delegatedWallMs);
    return then === "valid" ? undefined : then;
  }

  #isRevoked({ peer, serial }: Certificate): boolean {
    return this.revocations.has(peer) || this.revocations.has(serial);
  }

  /** Until when a renewal prolongs the certificate: 0 for one that does not count. */
  #prolonged(base: Certificate, renewal: CertificateRenewal | undefined, wallMs: number): number {
    if (renewal === undefined) return 0;
    const { statement, issuer } = renewal;
    const { body } = statement;
    const ca = issuer.statement.body;
    if (body.mesh !== this.mesh || body.peer !== base.peer || body.serial !== base.serial) return 0;
    if (body.notBeforeWallMs > wallMs + CLOCK_SKEW_MS) return 0;
    // The issuer counts by what root or admin signed for it: renewals of renewals would never end.
    const isIssuer = ca.mesh === this.mesh && ca.peer === statement.signer;
    if (!isIssuer || !grants(ca.capabilities, CA_CAPABILITY) || this.#isRevoked(ca)) return 0;
    if (this.#endorsement(issuer, wallMs) !== undefined || validityNow(ca, wallMs) !== "valid") return 0;
    return Math.min(body.notAfterWallMs, ca.notAfterWallMs, base.notBeforeWallMs + RENEWABLE_MS);
  }
}

function refused(code: CredentialsRefusal, validity?: Validity): Verdict {
  return { code, validity };
}
