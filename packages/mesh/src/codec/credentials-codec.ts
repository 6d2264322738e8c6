import { ROTATIONS_MAX } from "../core/trust/statements.ts";
import type { Credentials, Endorsed, Genesis, Signed } from "../core/trust/statements.ts";
import { decodeFields, encodeFields } from "./fields.ts";
import type { Fields } from "./fields.ts";
import { PEER_PATTERN } from "./record-codec.ts";
import { HASH_PATTERN } from "./statement-codec.ts";

/** Longest signed envelope as text: a certificate with every tag at its limit fits. */
const ENVELOPE_LENGTH_MAX: number = 24 * 1024;
/** Longest credentials, in bytes, unencoded. */
export const CREDENTIALS_BYTES_MAX: number = 64 * 1024;
/** Revocations that travel in one message. */
export const REVOCATIONS_PER_MESSAGE_MAX = 128;

const VERSION = 1;
const BASE64URL = /^[A-Za-z0-9_-]+$/u;

/** An envelope and the envelope of the delegation it rests on, unopened. */
export interface EndorsedText {
  readonly statement: string;
  /** Empty: the root signed. */
  readonly delegation: string;
}

/** Credentials whose envelopes nobody has opened yet. */
export interface CredentialsText {
  readonly genesis: Genesis;
  readonly rotations: readonly string[];
  readonly certificate: EndorsedText;
  readonly renewal: { readonly statement: string; readonly issuer: EndorsedText } | undefined;
}

export function encodeCredentials(credentials: Credentials): Uint8Array {
  const { genesis, rotations, certificate, renewal } = credentials;
  return encodeFields([
    VERSION,
    genesis.root,
    genesis.nextHash,
    rotations.map(({ envelope }) => envelope),
    endorsedFields(certificate),
    renewal === undefined ? [] : [[renewal.statement.envelope, endorsedFields(renewal.issuer)]],
  ]);
}

export function decodeCredentials(bytes: Uint8Array): CredentialsText | undefined {
  if (bytes.length > CREDENTIALS_BYTES_MAX) return undefined;
  return decodeFields(bytes, (fields) => {
    if (fields.count() !== VERSION) return undefined;
    const genesis = { root: fields.matching(PEER_PATTERN), nextHash: fields.matching(HASH_PATTERN) };
    const rotations = readEnvelopes(fields, ROTATIONS_MAX);
    const certificate = fields.nested(readEndorsed);
    const [renewal] = fields.list(1, (inner) => ({
      statement: readEnvelope(inner),
      issuer: inner.nested(readEndorsed),
    }));
    return { genesis, rotations, certificate, renewal };
  });
}

function endorsedFields(endorsed: Endorsed<unknown>): string[] {
  return [endorsed.statement.envelope, endorsed.delegation?.envelope ?? ""];
}

export function readEndorsed(fields: Fields): EndorsedText {
  const statement = readEnvelope(fields);
  const delegation = fields.text(0, ENVELOPE_LENGTH_MAX);
  if (delegation !== "" && !BASE64URL.test(delegation)) fields.refuse();
  return { statement, delegation };
}

export function readEnvelopes(fields: Fields, countMax: number): string[] {
  const envelopes = fields.texts(countMax, ENVELOPE_LENGTH_MAX);
  if (!envelopes.every((envelope) => BASE64URL.test(envelope))) fields.refuse();
  return envelopes;
}

/** What a node remembers of its mesh's keys. */
export interface TrustText {
  readonly mesh: string;
  readonly rotations: readonly string[];
  readonly revocations: readonly EndorsedText[];
}

export function encodeTrust(
  mesh: string,
  rotations: readonly Signed<unknown>[],
  revocations: readonly Endorsed<unknown>[],
): Uint8Array {
  return encodeFields([
    VERSION,
    mesh,
    rotations.map(({ envelope }) => envelope),
    revocations.map(endorsedFields),
  ]);
}

export function decodeTrust(bytes: Uint8Array, revocationsMax: number): TrustText | undefined {
  return decodeFields(bytes, (fields) => {
    if (fields.count() !== VERSION) return undefined;
    const mesh = fields.matching(HASH_PATTERN);
    const rotations = readEnvelopes(fields, ROTATIONS_MAX);
    return { mesh, rotations, revocations: fields.list(revocationsMax, readEndorsed) };
  });
}

function readEnvelope(fields: Fields): string {
  const envelope = fields.text(1, ENVELOPE_LENGTH_MAX);
  if (!BASE64URL.test(envelope)) fields.refuse();
  return envelope;
}
