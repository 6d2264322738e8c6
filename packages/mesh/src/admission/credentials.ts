import { decodeCredentials, encodeCredentials } from "../codec/credentials-codec.ts";
import type { EndorsedText } from "../codec/credentials-codec.ts";
import { meshIdOf } from "../codec/statement-codec.ts";
import type { StatementKind, Statements } from "../codec/statement-codec.ts";
import type { Credentials, Endorsed, Signed } from "../core/trust/statements.ts";
import { openStatement } from "./envelope.ts";

/** Credentials as one line of text, the form in which files and people carry them. */
export function credentialsText(credentials: Credentials): string {
  return Buffer.from(encodeCredentials(credentials)).toString("base64url");
}

/** @returns `undefined` if the text is none, or `mesh` for credentials of another mesh: nothing in them is opened then. */
export function openCredentials(bytes: Uint8Array, mesh?: string): Credentials | "foreign" | undefined {
  const text = decodeCredentials(bytes);
  if (text === undefined) return undefined;
  const id = meshIdOf(text.genesis);
  if (mesh !== undefined && id !== mesh) return "foreign"; // Before any signature: strangers get no work out of us.
  const rotations = text.rotations.map((envelope) => openStatement("rotation", envelope));
  const certificate = openEndorsed("certificate", text.certificate);
  if (certificate === undefined || !isWhole(rotations)) return undefined;
  const found = { mesh: id, genesis: text.genesis, rotations, certificate };
  if (text.renewal === undefined) return { ...found, renewal: undefined };
  const statement = openStatement("renewal", text.renewal.statement);
  const issuer = openEndorsed("certificate", text.renewal.issuer);
  if (statement === undefined || issuer === undefined) return undefined;
  return { ...found, renewal: { statement, issuer } };
}

export function openEndorsed<Kind extends StatementKind>(
  kind: Kind,
  text: EndorsedText,
): Endorsed<Statements[Kind]> | undefined {
  const statement = openStatement(kind, text.statement);
  if (statement === undefined) return undefined;
  if (text.delegation === "") return { statement, delegation: undefined };
  const delegation = openStatement("delegation", text.delegation);
  return delegation === undefined ? undefined : { statement, delegation };
}

function isWhole<Body>(list: readonly (Signed<Body> | undefined)[]): list is readonly Signed<Body>[] {
  return !list.includes(undefined);
}
