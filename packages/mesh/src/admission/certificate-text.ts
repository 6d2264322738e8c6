import { loadIdentity } from "../host/identity.ts";
import { MeshError } from "../errors.ts";
import { directorySchema, parseWith } from "../schemas.ts";
import type { MemberCertificate } from "./control.ts";
import { openCredentials } from "./credentials.ts";

/** A certificate that was read from its text: its signatures are right; whether it is valid now is another question. */
export interface CertificateDetails extends MemberCertificate {
  readonly meshId: string;
  /** Peer id of the root or admin key that signed it. */
  readonly issuer: string;
  readonly issuedBy: "root" | "admin";
  /** The member that prolonged it, if one has. */
  readonly renewedBy: string | undefined;
}

/** Reads the text of a certificate, for people to look at. @throws MeshError `CERTIFICATE_INVALID`. */
export function readCertificate(text: string): CertificateDetails {
  const found = typeof text === "string" ? openCredentials(Buffer.from(text.trim(), "base64url")) : undefined;
  if (found === undefined || found === "foreign")
    throw new MeshError(
      "CERTIFICATE_INVALID",
      "the text is no certificate, or was changed since it was signed",
    );
  const { statement, delegation } = found.certificate;
  const { mesh, peer, name, cloud, tags, capabilities, serial, notBeforeWallMs } = statement.body;
  const renewal = found.renewal?.statement;
  return {
    ...{ peerId: peer, name, cloud, tags, capabilities, serial, notBeforeWallMs },
    notAfterWallMs: renewal?.body.notAfterWallMs ?? statement.body.notAfterWallMs,
    meshId: mesh,
    issuer: statement.signer,
    issuedBy: delegation === undefined ? "root" : "admin",
    renewedBy: renewal?.signer,
  };
}

/**
 * The peer id of the node in `dataDir`, whose key is made if there is none.
 * @throws MeshError `INVALID_OPTIONS`, `IDENTITY_DAMAGED`, `STORE_FAILED`.
 */
export async function readPeerId(dataDir: string): Promise<string> {
  parseWith(directorySchema, dataDir, "dataDir");
  return (await loadIdentity(dataDir)).peerId;
}
