import { createHash, createPrivateKey, createPublicKey, sign, verify } from "node:crypto";
import type { KeyObject } from "node:crypto";
import type { Ed25519PrivateKey, Ed25519PublicKey } from "@libp2p/interface";
import { peerIdFromPrivateKey, peerIdFromPublicKey } from "@libp2p/peer-id";
import { RecordEnvelope } from "@libp2p/peer-record";
import { decodeStatement, encodeStatement } from "../codec/statement-codec.ts";
import type { StatementKind, Statements } from "../codec/statement-codec.ts";
import type { Signed } from "../core/trust/statements.ts";

/** Envelopes and keys that were checked lately: links come back, and a check costs 50 to 100 µs. */
const OPENED_MAX = 2_048;
const KEYS_MAX = 1_024;

const utf8 = new TextEncoder();
const opened = new Map<string, Signed<unknown>>();
const keys = new Map<string, KeyObject>();

/** A key that signs statements. */
export interface SigningKey {
  /** The peer id it makes. */
  readonly id: string;
  readonly privateKey: Ed25519PrivateKey;
}

export function signingKey(privateKey: Ed25519PrivateKey): SigningKey {
  return { id: peerIdFromPrivateKey(privateKey).toString(), privateKey };
}

/** Signs a statement as a libp2p signed envelope (RFC 0002), as base64url text. */
export function sealStatement<Kind extends StatementKind>(
  kind: Kind,
  body: Statements[Kind],
  key: SigningKey,
): Signed<Statements[Kind]> {
  const payload = encodeStatement(kind, body);
  const { publicKey } = key.privateKey;
  const x = Buffer.from(publicKey.raw).toString("base64url");
  const d = Buffer.from(key.privateKey.raw.subarray(0, 32)).toString("base64url");
  const secret = createPrivateKey({ format: "jwk", key: { kty: "OKP", crv: "Ed25519", x, d } });
  const signature = sign(null, signedBytes(kind, payload), secret);
  const envelope = new RecordEnvelope({ publicKey, payloadType: typeOf(kind), payload, signature });
  return {
    body,
    signer: key.id,
    id: idOf(key.id, payload),
    envelope: Buffer.from(envelope.marshal()).toString("base64url"),
  };
}

/** Opens a signed statement of that kind; `undefined` if anything about it is not as it should be. */
export function openStatement<Kind extends StatementKind>(
  kind: Kind,
  envelope: string,
): Signed<Statements[Kind]> | undefined {
  const place = `${kind}:${envelope}`;
  const known = opened.get(place);
  if (known !== undefined) return known as Signed<Statements[Kind]>;
  const found = check(kind, envelope);
  if (found !== undefined) remember(opened, place, found, OPENED_MAX);
  return found;
}

/** What an envelope says of itself; nothing is checked, which would cost several times as much. */
export function peekStatement(envelope: string): Pick<Signed<unknown>, "signer" | "id"> | undefined {
  const parts = unmarshal(Buffer.from(envelope, "base64url"));
  if (parts?.publicKey.type !== "Ed25519") return undefined;
  const signer = peerIdFromPublicKey(parts.publicKey).toString();
  return { signer, id: idOf(signer, parts.payload) };
}

function check<Kind extends StatementKind>(
  kind: Kind,
  envelope: string,
): Signed<Statements[Kind]> | undefined {
  const parts = unmarshal(Buffer.from(envelope, "base64url"));
  if (parts === undefined || !Buffer.from(parts.payloadType).equals(typeOf(kind))) return undefined;
  const { publicKey, payload, signature } = parts;
  if (publicKey.type !== "Ed25519") return undefined;
  if (!verify(null, signedBytes(kind, payload), keyObject(publicKey), signature)) return undefined;
  const body = decodeStatement(kind, payload);
  if (body === undefined) return undefined;
  const signer = peerIdFromPublicKey(publicKey).toString();
  return { body, signer, id: idOf(signer, payload), envelope };
}

/** The same words of two signers are two statements. */
function idOf(signer: string, payload: Uint8Array): string {
  return createHash("sha256").update(`${signer}:`).update(payload).digest("hex");
}

function unmarshal(bytes: Uint8Array): RecordEnvelope | undefined {
  try {
    return RecordEnvelope.createFromProtobuf(bytes);
  } catch {
    return undefined; // No protobuf, or no key in it.
  }
}

/** Domain, type and payload, each with its length: what RFC 0002 has signed. */
function signedBytes(kind: StatementKind, payload: Uint8Array): Uint8Array {
  const parts = [utf8.encode(`klatsch-${kind}`), typeOf(kind), payload];
  return Buffer.concat(parts.flatMap((part) => [varint(part.length), part]));
}

function typeOf(kind: StatementKind): Uint8Array {
  return utf8.encode(`/klatsch/${kind}/1`);
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 0x7f; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 0x80);
  return Uint8Array.from([...bytes, rest]);
}

/** Building a key object costs as much as a check. */
function keyObject(publicKey: Ed25519PublicKey): KeyObject {
  const x = Buffer.from(publicKey.raw).toString("base64url");
  const known = keys.get(x);
  if (known !== undefined) return known;
  const made = createPublicKey({ format: "jwk", key: { kty: "OKP", crv: "Ed25519", x } });
  remember(keys, x, made, KEYS_MAX);
  return made;
}

function remember<Value>(cache: Map<string, Value>, key: string, value: Value, sizeMax: number): void {
  const [oldest] = cache.keys();
  if (oldest !== undefined && cache.size >= sizeMax) cache.delete(oldest);
  cache.set(key, value);
}
