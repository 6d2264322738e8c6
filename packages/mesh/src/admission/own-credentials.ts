import { join } from "node:path";
import { decodeAdoption } from "../codec/enrol-codec.ts";
import type { Credentials } from "../core/trust/statements.ts";
import { MeshError } from "../errors.ts";
import { readIfPresent, writeDurably } from "../host/files.ts";
import { credentialsText, openCredentials } from "./credentials.ts";

/** The certificate of this node in its data directory: renewals write it, or a person puts it there. */
export const CERTIFICATE_FILE = "certificate";
/** What a node was given at its adoption, its first certificate among it. */
export const ADOPTION_FILE = "adoption";

/** The credentials this node shows. @throws MeshError `CERTIFICATE_INVALID`. */
export async function loadOwnCredentials(dataDir: string, given: string | undefined): Promise<Credentials> {
  const file = join(dataDir, CERTIFICATE_FILE);
  const stored = await readStored(dataDir);
  if (given === undefined) {
    if (stored !== undefined) return stored;
    throw new MeshError("CERTIFICATE_INVALID", `admission: no certificate is given, and there is no ${file}`);
  }
  const parsed = parseCredentials(given, "admission.certificate");
  // The stored one may have been renewed since; another serial means that a person has issued a new one.
  const isSame = stored?.certificate.statement.id === parsed.certificate.statement.id;
  return isSame && stored?.renewal !== undefined ? stored : parsed;
}

async function readStored(dataDir: string): Promise<Credentials | undefined> {
  const file = join(dataDir, CERTIFICATE_FILE);
  const bytes = await readIfPresent(file);
  if (bytes !== undefined) return parseCredentials(Buffer.from(bytes).toString(), file);
  const adoptionFile = join(dataDir, ADOPTION_FILE);
  const adoption = await readIfPresent(adoptionFile);
  if (adoption === undefined) return undefined;
  return parseCredentials(decodeAdoption(adoption)?.credentials ?? "", adoptionFile);
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
