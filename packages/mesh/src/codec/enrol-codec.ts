import { CREDENTIALS_BYTES_MAX } from "./credentials-codec.ts";
import { decodeFields, encodeFields } from "./fields.ts";
import type { Fields } from "./fields.ts";
import { PEER_PATTERN } from "./record-codec.ts";
import { HASH_PATTERN } from "./statement-codec.ts";

const VERSION = 1;
/** Longest configuration as JSON text. */
export const CONFIGURATION_LENGTH_MAX: number = 32 * 1024;
/** Longest message of an adoption: credentials and configuration, and room for the rest. */
export const ENROL_BYTES_MAX: number = 160 * 1024;
const CREDENTIALS_LENGTH_MAX: number = Math.ceil((CREDENTIALS_BYTES_MAX * 4) / 3);

/** Why an adoption is refused. `WRONG_CODE`: or one that has run out. */
export type EnrolRefusal = "WRONG_CODE" | "ALREADY_ADOPTED" | "BAD_CERTIFICATE" | "BUSY";
const REFUSALS: readonly EnrolRefusal[] = ["WRONG_CODE", "ALREADY_ADOPTED", "BAD_CERTIFICATE", "BUSY"];

/** What adopter and node say, in this order, inside Noise. */
export type EnrolMessage =
  /** Adopter: a node for this mesh. */
  | { readonly type: "begin"; readonly mesh: string; readonly nonce: string }
  | { readonly type: "challenge"; readonly nonce: string }
  /** Each proves the code to the other, the adopter first. */
  | { readonly type: "proof"; readonly mac: string }
  | { readonly type: "grant"; readonly credentials: string; readonly configuration: string }
  /** The node has it on disk and is closed; `hash` is of the credentials. */
  | { readonly type: "ack"; readonly hash: string }
  /** Adopter: the ack has arrived. */
  | { readonly type: "done" }
  /** To the adopter itself, in place of a challenge: granted already; say it again. */
  | { readonly type: "adopted"; readonly hash: string }
  | { readonly type: "refused"; readonly code: EnrolRefusal };

const TYPES = {
  begin: 1,
  challenge: 2,
  proof: 3,
  grant: 4,
  ack: 5,
  done: 6,
  adopted: 7,
  refused: 8,
} as const;

export function encodeEnrolMessage(message: EnrolMessage): Uint8Array {
  const head = [TYPES[message.type], VERSION];
  switch (message.type) {
    case "begin":
      return encodeFields([...head, message.mesh, message.nonce]);
    case "challenge":
      return encodeFields([...head, message.nonce]);
    case "proof":
      return encodeFields([...head, message.mac]);
    case "grant":
      return encodeFields([...head, message.credentials, message.configuration]);
    case "ack":
    case "adopted":
      return encodeFields([...head, message.hash]);
    case "done":
      return encodeFields(head);
    case "refused":
      return encodeFields([...head, REFUSALS.indexOf(message.code)]);
  }
}

export function decodeEnrolMessage(bytes: Uint8Array): EnrolMessage | undefined {
  if (bytes.length > ENROL_BYTES_MAX) return undefined;
  return decodeFields(bytes, (fields) => {
    const type = fields.count();
    if (fields.count() !== VERSION) return undefined;
    switch (type) {
      case TYPES.begin:
        return {
          type: "begin",
          mesh: fields.matching(HASH_PATTERN),
          nonce: fields.matching(HASH_PATTERN),
        };
      case TYPES.challenge:
        return { type: "challenge", nonce: fields.matching(HASH_PATTERN) };
      case TYPES.proof:
        return { type: "proof", mac: fields.matching(HASH_PATTERN) };
      case TYPES.grant:
        return {
          type: "grant",
          credentials: fields.text(1, CREDENTIALS_LENGTH_MAX),
          configuration: json(fields),
        };
      case TYPES.ack:
        return { type: "ack", hash: fields.matching(HASH_PATTERN) };
      case TYPES.done:
        return { type: "done" };
      case TYPES.adopted:
        return { type: "adopted", hash: fields.matching(HASH_PATTERN) };
      case TYPES.refused:
        return { type: "refused", code: fields.oneOf(REFUSALS) };
    }
    return undefined;
  });
}

/** What a node remembers of its adoption: that it is closed, by whom, and what it was given. */
export interface AdoptionRecord {
  readonly adopter: string;
  readonly credentials: string;
  readonly configuration: string;
}

export function encodeAdoption({ adopter, credentials, configuration }: AdoptionRecord): Uint8Array {
  return encodeFields([VERSION, adopter, credentials, configuration]);
}

export function decodeAdoption(bytes: Uint8Array): AdoptionRecord | undefined {
  return decodeFields(bytes, (fields) => {
    if (fields.count() !== VERSION) return undefined;
    const adopter = fields.matching(PEER_PATTERN);
    return { adopter, credentials: fields.text(1, CREDENTIALS_LENGTH_MAX), configuration: json(fields) };
  });
}

/** The bytes under an adoption's MAC: who proves what to whom, and both nonces. */
export function proofBytes(proof: {
  readonly by: "adopter" | "node";
  readonly adopter: string;
  readonly node: string;
  readonly mesh: string;
  readonly nonces: readonly [adopter: string, node: string];
}): Uint8Array {
  const { by, adopter, node, mesh, nonces } = proof;
  return encodeFields(["klatsch-enrol", VERSION, by, adopter, node, mesh, ...nonces]);
}

function json(fields: Fields): string {
  const text = fields.text(2, CONFIGURATION_LENGTH_MAX);
  try {
    JSON.parse(text);
  } catch {
    fields.refuse();
  }
  return text;
}
