import { createHash } from "node:crypto";
import {
  CAPABILITIES_MAX,
  CERTIFICATE_LIFE_MS_MAX,
  ROTATION_OVERLAP_MS_MAX,
} from "../core/trust/statements.ts";
import type {
  Certificate,
  Delegation,
  Genesis,
  Renewal,
  Revocation,
  Rotation,
  Validity,
} from "../core/trust/statements.ts";
import { decodeFields, encodeFields } from "./fields.ts";
import type { Fields } from "./fields.ts";
import {
  NAME_PATTERN,
  PEER_PATTERN,
  TAG_KEY_LENGTH_MAX,
  TAG_VALUE_LENGTH_MAX,
  TAGS_MAX,
} from "./record-codec.ts";

/** Of the bodies below; a body of another one is not read. */
const STATEMENT_VERSION = 1;
/** SHA-256 in hexadecimal digits: a mesh's id, a key's hash. */
export const HASH_PATTERN: RegExp = /^[0-9a-f]{64}$/u;
/** Serial of a certificate. */
export const SERIAL_PATTERN: RegExp = /^[0-9a-f]{32}$/u;
/** What capabilities may be called. */
export const CAPABILITY_PATTERN: RegExp = /^(\*|[a-z0-9][a-z0-9:._-]{0,63})$/u;
/** What a revocation may name. */
const SUBJECT_PATTERN: RegExp = /^(12D3KooW[1-9A-HJ-NP-Za-km-z]{44}|[0-9a-f]{32})$/u;

/** The kinds of statement: part of what is signed, so that none can pass for another. */
export interface Statements {
  readonly certificate: Certificate;
  readonly delegation: Delegation;
  readonly renewal: Renewal;
  readonly revocation: Revocation;
  readonly rotation: Rotation;
}
export type StatementKind = keyof Statements;

type Body<Kind extends StatementKind> = Statements[Kind];

const WRITERS: { readonly [Kind in StatementKind]: (body: Body<Kind>) => readonly unknown[] } = {
  certificate: (body) => {
    const { mesh, peer, name, cloud, tags, capabilities, serial } = body;
    return [mesh, peer, name, cloud, Object.entries(tags), capabilities, ...times(body), serial];
  },
  delegation: (body) => [body.mesh, body.key, ...times(body)],
  renewal: (body) => [body.mesh, body.peer, body.serial, ...times(body)],
  revocation: (body) => [body.mesh, body.subject, body.atWallMs],
  rotation: (body) => [body.mesh, body.seq, body.key, body.nextHash, body.atWallMs, body.overlapMs],
};

const READERS: { readonly [Kind in StatementKind]: (fields: Fields) => Body<Kind> } = {
  certificate: (fields) => {
    const mesh = fields.matching(HASH_PATTERN);
    const peer = fields.matching(PEER_PATTERN);
    const name = fields.matching(NAME_PATTERN);
    const cloud = fields.matching(NAME_PATTERN);
    const tags = fields.list(TAGS_MAX, (tag): [string, string] => [
      tag.text(1, TAG_KEY_LENGTH_MAX),
      tag.text(0, TAG_VALUE_LENGTH_MAX),
    ]);
    const capabilities = fields.texts(CAPABILITIES_MAX, 64);
    if (!capabilities.every((capability) => CAPABILITY_PATTERN.test(capability))) fields.refuse();
    const validity = readTimes(fields);
    const serial = fields.matching(SERIAL_PATTERN);
    return { mesh, peer, name, cloud, tags: Object.fromEntries(tags), capabilities, ...validity, serial };
  },
  delegation: (fields) => {
    const mesh = fields.matching(HASH_PATTERN);
    return { mesh, key: fields.matching(PEER_PATTERN), ...readTimes(fields) };
  },
  renewal: (fields) => {
    const mesh = fields.matching(HASH_PATTERN);
    const peer = fields.matching(PEER_PATTERN);
    return { mesh, peer, serial: fields.matching(SERIAL_PATTERN), ...readTimes(fields) };
  },
  revocation: (fields) => {
    const mesh = fields.matching(HASH_PATTERN);
    return { mesh, subject: fields.matching(SUBJECT_PATTERN), atWallMs: fields.count() };
  },
  rotation: (fields) => {
    const mesh = fields.matching(HASH_PATTERN);
    const seq = fields.count();
    const key = fields.matching(PEER_PATTERN);
    const nextHash = fields.matching(HASH_PATTERN);
    const atWallMs = fields.count();
    const overlapMs = fields.count(ROTATION_OVERLAP_MS_MAX);
    return { mesh, seq, key, keyHash: hashOfKey(key), nextHash, atWallMs, overlapMs };
  },
};

export function encodeStatement<Kind extends StatementKind>(kind: Kind, body: Body<Kind>): Uint8Array {
  return encodeFields([STATEMENT_VERSION, ...WRITERS[kind](body)]);
}

/** `undefined`: another version, or not what this kind says. */
export function decodeStatement<Kind extends StatementKind>(
  kind: Kind,
  bytes: Uint8Array,
): Body<Kind> | undefined {
  return decodeFields(bytes, (fields) => {
    if (fields.count() !== STATEMENT_VERSION) return undefined;
    return READERS[kind](fields);
  });
}

/** What a root key is committed to by. */
export function hashOfKey(key: string): string {
  return createHash("sha256").update(`klatsch-root:${key}`).digest("hex");
}

/** A mesh's id: fixed by its first root and the commitment to the second, for ever. */
export function meshIdOf({ root, nextHash }: Genesis): string {
  return createHash("sha256").update(`klatsch-mesh:${root}:${nextHash}`).digest("hex");
}

function times({ notBeforeWallMs, notAfterWallMs }: Validity): [number, number] {
  return [notBeforeWallMs, notAfterWallMs];
}

function readTimes(fields: Fields): Validity {
  const notBeforeWallMs = fields.count();
  const notAfterWallMs = fields.count();
  const lifeMs = notAfterWallMs - notBeforeWallMs;
  if (lifeMs <= 0 || lifeMs > CERTIFICATE_LIFE_MS_MAX) fields.refuse();
  return { notBeforeWallMs, notAfterWallMs };
}
