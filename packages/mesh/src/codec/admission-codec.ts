import { ROTATIONS_MAX } from "../core/trust/statements.ts";
import type { AdmissionRefusal } from "../core/trust/statements.ts";
import {
  CREDENTIALS_BYTES_MAX,
  readEndorsed,
  readEnvelopes,
  REVOCATIONS_PER_MESSAGE_MAX,
} from "./credentials-codec.ts";
import type { EndorsedText } from "./credentials-codec.ts";
import { decodeFields, encodeFields } from "./fields.ts";
import type { Fields } from "./fields.ts";
import { NAME_LENGTH_MAX } from "./record-codec.ts";

/** Of the handshake below. */
const HANDSHAKE_VERSION = 1;
/** Longest message of a handshake: credentials as text, and room for the rest. */
export const HANDSHAKE_BYTES_MAX: number = 160 * 1024;
/** Credentials travel as base64url. */
const CREDENTIALS_LENGTH_MAX: number = Math.ceil((CREDENTIALS_BYTES_MAX * 4) / 3);
const DETAIL_LENGTH_MAX = 200;
const BASE64URL = /^[A-Za-z0-9_-]+$/u;
const DIGEST_PATTERN = /^[0-9a-f]{1,64}$/u;
/** Text of revocations and rotations in one message: it fits a frame of a link stream. */
const NOTICES_LENGTH_MAX: number = 64 * 1024;

/** Why a connection is refused before it is given out, in the order of their numbers on the wire. */
const ADMISSION_REFUSALS: readonly AdmissionRefusal[] = [
  "NO_CERTIFICATE",
  "TAMPERED",
  "FOREIGN_MESH",
  "UNTRUSTED_ISSUER",
  "WRONG_PEER",
  "REVOKED",
  "EXPIRED",
  "NOT_YET_VALID",
  "MESH_NAME",
  "PROTOCOL_VERSION",
  "ADMISSION_MODE",
];

/** What members tell each other of keys: grow-only, so it may come twice and in any order. */
export interface Notices {
  readonly rotations: readonly string[];
  readonly revocations: readonly EndorsedText[];
}

/** First words inside Noise where certificates are asked for. */
export interface Introduction {
  readonly wallMs: number;
  /** Of the revocations the sender knows. */
  readonly digest: string;
  readonly credentials: Uint8Array;
}

/** The last word of each end. */
export interface Decision {
  /** `undefined`: welcome. */
  readonly refusal: AdmissionRefusal | undefined;
  /** For people. */
  readonly detail: string;
  readonly wallMs: number;
  readonly notices: Notices;
}

/** First words where anybody is let in who knows the name of the mesh. */
export interface MeshName {
  readonly mesh: string;
}

/** What the two ends say inside Noise, before either of them uses the connection. */
export type HandshakeMessage =
  | ({ readonly type: "introduction" } & Introduction)
  | ({ readonly type: "meshName" } & MeshName)
  | ({ readonly type: "decision" } & Decision)
  /** Another version than ours: no more of it can be read. */
  | { readonly type: "foreign"; readonly version: number };

const HANDSHAKE = { introduction: 1, meshName: 2, decision: 3 } as const;

export function encodeIntroduction({ wallMs, digest, credentials }: Introduction): Uint8Array {
  const text = Buffer.from(credentials).toString("base64url");
  return encodeFields([HANDSHAKE.introduction, HANDSHAKE_VERSION, wallMs, digest, text]);
}

export function encodeMeshName({ mesh }: MeshName): Uint8Array {
  return encodeFields([HANDSHAKE.meshName, HANDSHAKE_VERSION, mesh]);
}

export function encodeDecision({ refusal, detail, wallMs, notices }: Decision): Uint8Array {
  const number = refusal === undefined ? 0 : ADMISSION_REFUSALS.indexOf(refusal) + 1;
  const about = [number, detail.slice(0, DETAIL_LENGTH_MAX), wallMs];
  return encodeFields([HANDSHAKE.decision, HANDSHAKE_VERSION, ...about, ...noticesFields(notices)]);
}

export function decodeHandshake(bytes: Uint8Array): HandshakeMessage | undefined {
  if (bytes.length > HANDSHAKE_BYTES_MAX) return undefined;
  return decodeFields(bytes, (fields) => {
    const type = fields.count();
    const version = fields.count();
    if (version !== HANDSHAKE_VERSION) return { type: "foreign", version };
    switch (type) {
      case HANDSHAKE.introduction: {
        const wallMs = fields.count();
        const digest = fields.matching(DIGEST_PATTERN);
        const credentials = readBytes(fields, CREDENTIALS_LENGTH_MAX);
        return { type: "introduction", wallMs, digest, credentials };
      }
      case HANDSHAKE.meshName:
        return { type: "meshName", mesh: fields.text(1, NAME_LENGTH_MAX) };
      case HANDSHAKE.decision: {
        const refusal = ADMISSION_REFUSALS[fields.count(ADMISSION_REFUSALS.length) - 1];
        const detail = fields.text(0, DETAIL_LENGTH_MAX);
        return { type: "decision", refusal, detail, wallMs: fields.count(), notices: readNotices(fields) };
      }
    }
    return undefined;
  });
}

/** What members say on their link stream about keys. */
export type AdmissionMessage =
  /** The revocations and the rotation I know: answer with yours if they differ. */
  | { readonly type: "digest"; readonly digest: string; readonly seq: number }
  | { readonly type: "notices"; readonly notices: Notices }
  /** My credentials have been renewed. */
  | { readonly type: "credentials"; readonly credentials: Uint8Array }
  /** Please renew the certificate I showed you. */
  | { readonly type: "renew" }
  | { readonly type: "renewed"; readonly statement: string; readonly issuer: EndorsedText };

const TYPES = { digest: 1, notices: 2, credentials: 3, renew: 4, renewed: 5 } as const;

export function encodeAdmissionMessage(message: AdmissionMessage): Uint8Array {
  const type = TYPES[message.type];
  switch (message.type) {
    case "digest":
      return encodeFields([type, message.digest, message.seq]);
    case "notices":
      return encodeFields([type, ...noticesFields(message.notices)]);
    case "credentials":
      return encodeFields([type, Buffer.from(message.credentials).toString("base64url")]);
    case "renew":
      return encodeFields([type]);
    case "renewed":
      return encodeFields([type, [message.statement], [message.issuer.statement, message.issuer.delegation]]);
  }
}

export function decodeAdmissionMessage(bytes: Uint8Array): AdmissionMessage | undefined {
  return decodeFields(bytes, (fields) => {
    switch (fields.count()) {
      case TYPES.digest:
        return { type: "digest", digest: fields.matching(DIGEST_PATTERN), seq: fields.count(ROTATIONS_MAX) };
      case TYPES.notices:
        return { type: "notices", notices: readNotices(fields) };
      case TYPES.credentials:
        return { type: "credentials", credentials: readBytes(fields, CREDENTIALS_LENGTH_MAX) };
      case TYPES.renew:
        return { type: "renew" };
      case TYPES.renewed: {
        const [statement = ""] = readEnvelopes(fields, 1);
        return statement === ""
          ? undefined
          : { type: "renewed", statement, issuer: fields.nested(readEndorsed) };
      }
    }
    return undefined;
  });
}

/** Cuts into messages that each fit a frame; one at least. */
export function cutNotices({ rotations, revocations }: Notices): Notices[] {
  const cut: { rotations: string[]; revocations: EndorsedText[] }[] = [];
  let length = Infinity;
  const room = (more: number): (typeof cut)[number] => {
    const last = cut.at(-1);
    if (last !== undefined && length + more <= NOTICES_LENGTH_MAX) {
      if (last.revocations.length < REVOCATIONS_PER_MESSAGE_MAX) {
        length += more;
        return last;
      }
    }
    const made = { rotations: [], revocations: [] };
    cut.push(made);
    length = more;
    return made;
  };
  for (const rotation of rotations) room(rotation.length).rotations.push(rotation);
  for (const entry of revocations) {
    room(entry.statement.length + entry.delegation.length).revocations.push(entry);
  }
  return cut.length === 0 ? [{ rotations: [], revocations: [] }] : cut;
}

function noticesFields({ rotations, revocations }: Notices): unknown[] {
  return [rotations, revocations.map(({ statement, delegation }) => [statement, delegation])];
}

function readNotices(fields: Fields): Notices {
  const rotations = readEnvelopes(fields, ROTATIONS_MAX);
  return { rotations, revocations: fields.list(REVOCATIONS_PER_MESSAGE_MAX, readEndorsed) };
}

function readBytes(fields: Fields, lengthMax: number): Uint8Array {
  const text = fields.text(1, lengthMax);
  if (!BASE64URL.test(text)) fields.refuse();
  return Buffer.from(text, "base64url");
}
