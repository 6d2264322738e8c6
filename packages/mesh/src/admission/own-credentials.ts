import { join } from "node:path";
import type { Credentials } from "../core/trust/statements.ts";
import { MeshError } from "../errors.ts";
import { readIfPresent, writeDurably } from "../host/files.ts";
import { credentialsText, openCredentials } from "./credentials.ts";

/** The certificate of this node in its data directory: enrolment and renewals write it. */
const CERTIFICATE_FILE = "certificate";

/** The credentials this node shows. @throws MeshError `CERTIFICATE_INVALID`. */
export async function loadOwnCredentials(dataDir: string, given: string | undefined): Promise<Credentials> {
  const file = join(dataDir, CERTIFICATE_FILE);
  const bytes = await readIfPresent(file);
  const stored = bytes === undefined ? undefined : parseCredentials(Buffer.from(bytes).toString(), file);
  if (given === undefined) {
    if (stored !== undefined) return stored;
    throw new MeshError("CERTIFICATE_INVALID", `admission: no certificate is given, and there is no ${file}`);
  }
  const parsed = parseCredentials(given, "admission.certificate");
  // The stored one may have been renewed since; another serial means that a person has issued a new one.
  const isSame = stored?.certificate.statement.id === parsed.certificate.statement.id;
  return isSame && stored?.renewal !== undefined ? stored : parsed;
}

export async function saveOwnCredentials(dataDir: string, credentials: Credentials): Promise<void> {
  await writeDurably(dataDir, CERTIFICATE_FILE, Buffer.from(`${credentialsText(credentials)}\n`));
}

/** @throws MeshError `CERTIFICATE_INVALID` saying where the text is from. */
function parseCredentials(text: string, from: string): Credentials {
  const found = openCredentials(Buffer.from(text.trim(), "base64url"));
  if (found === undefined || found === "foreign")
    throw new MeshError(
      "CERTIFICATE_INVALID",
      `${from} is no certificate, or was changed since it was signed`,
    );
  return found;
}
