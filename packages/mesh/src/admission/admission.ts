import type { Ed25519PrivateKey } from "@libp2p/interface";
import type { Logger, Random } from "@klatsch/kit";
import { MeshError } from "../errors.ts";
import { CertificateAdmission } from "./certificates.ts";
import type { AdmissionControl, AdmissionPorts } from "./control.ts";
import { signingKey } from "./envelope.ts";
import type { Gate } from "./gate.ts";
import { MemberTrust } from "./member-trust.ts";
import { OpenAdmission } from "./open.ts";
import { loadOwnCredentials } from "./own-credentials.ts";

/** Who is let in, as the options say. */
export type AdmissionOptions =
  | { readonly mode: "open" }
  | {
      readonly mode: "certificate";
      readonly certificate: string | undefined;
      readonly meshId: string | undefined;
      /** Inside a node of the application's, where its connections come from. */
      readonly gate: Gate | undefined;
    };

/** What the options say of this node; in a mesh of certificates, the certificate says it. */
interface AskedDescription {
  readonly name: string | undefined;
  readonly mesh: string | undefined;
  readonly cloud: string | undefined;
  readonly tags: Readonly<Record<string, string>> | undefined;
}

export interface OpenAdmissionInit {
  readonly admission: AdmissionOptions;
  readonly asked: AskedDescription;
  readonly dataDir: string;
  readonly privateKey: Ed25519PrivateKey;
  readonly logger: Logger;
  readonly random: Random;
  readonly ports: AdmissionPorts;
}

interface Description {
  readonly name: string;
  readonly cloud: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly mesh: string;
}

/** Admission of one node, and what the node is therefore called. */
export interface OpenedAdmission {
  readonly control: AdmissionControl;
  readonly description: Description;
}

/** @throws MeshError `INVALID_OPTIONS`, `CERTIFICATE_INVALID`, `REVOKED`. */
export async function openAdmission(init: OpenAdmissionInit): Promise<OpenedAdmission> {
  const { admission, asked } = init;
  if (admission.mode === "certificate") return await openCertificates(init, admission);
  if (asked.name === undefined) throw new MeshError("INVALID_OPTIONS", "name: is required");
  const mesh = asked.mesh ?? "default";
  const description = { name: asked.name, cloud: asked.cloud ?? "default", tags: asked.tags ?? {}, mesh };
  return { control: new OpenAdmission(mesh, init.ports), description };
}

async function openCertificates(
  init: OpenAdmissionInit,
  admission: Extract<AdmissionOptions, { mode: "certificate" }>,
): Promise<OpenedAdmission> {
  const { dataDir, ports, logger, random } = init;
  const key = signingKey(init.privateKey);
  const own = await loadOwnCredentials(dataDir, admission.certificate);
  if (admission.meshId !== undefined && admission.meshId !== own.mesh) {
    throw new MeshError("INVALID_OPTIONS", `admission.meshId: the certificate is of mesh ${own.mesh}`);
  }
  const wallMs = ports.wallMs();
  const memberTrust = await MemberTrust.open(own, dataDir, wallMs);
  const verdict = memberTrust.trust.judge(own, key.id, wallMs);
  if ("code" in verdict) throw refusedOurselves(verdict.code, own.certificate.statement.body, key.id, wallMs);
  const { name, cloud, tags } = verdict.admitted.certificate;
  const description = { name, cloud, tags, mesh: own.mesh };
  requireSame(init.asked, description);
  const control = new CertificateAdmission({ own, key, memberTrust, dataDir, logger, random, ports });
  return { control, description };
}

/** What a node says of itself and its certificate denies would only be refused elsewhere: say it here. */
function requireSame(asked: AskedDescription, certified: OpenedAdmission["description"]): void {
  for (const field of ["name", "cloud", "mesh"] as const) {
    const value = asked[field];
    if (value !== undefined && value !== certified[field])
      throw new MeshError(
        "INVALID_OPTIONS",
        `${field}: the certificate says ${certified[field]}, not ${value}`,
      );
  }
  if (asked.tags === undefined) return;
  const [given, signed] = [asked.tags, certified.tags].map(tagsText);
  if (given !== signed) throw new MeshError("INVALID_OPTIONS", `tags: the certificate says ${signed ?? ""}`);
}

function tagsText(tags: Readonly<Record<string, string>>): string {
  const lines = Object.entries(tags).map((tag) => JSON.stringify(tag));
  return lines.toSorted((a, b) => (a < b ? -1 : 1)).join(" ");
}

function refusedOurselves(
  code: string,
  certificate: { readonly peer: string; readonly notBeforeWallMs: number; readonly notAfterWallMs: number },
  peer: string,
  wallMs: number,
): MeshError {
  if (code === "REVOKED")
    return new MeshError("REVOKED", "this node's key or certificate was revoked; it needs new ones");
  const what =
    code === "WRONG_PEER"
      ? `it is for ${certificate.peer}, and this node is ${peer}`
      : `valid from ${new Date(certificate.notBeforeWallMs).toISOString()} to ${new Date(certificate.notAfterWallMs).toISOString()}, our clock says ${new Date(wallMs).toISOString()}`;
  return new MeshError("CERTIFICATE_INVALID", `this node's certificate is refused (${code}): ${what}`);
}
