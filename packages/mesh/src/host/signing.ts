import { createPrivateKey, createPublicKey, sign, verify } from "node:crypto";
import type { KeyObject } from "node:crypto";
import type { Ed25519PrivateKey } from "@libp2p/interface";
import { peerIdFromString } from "@libp2p/peer-id";

/** Keys of writers that are kept ready: making one costs as much as checking a signature. */
const KEYS_MAX = 4_096;
const SEED_BYTES = 32;

/** Signs with this node's key, and checks what others signed with theirs. */
export class Signing {
  readonly #private: KeyObject;
  readonly #publics = new Map<string, KeyObject>();

  constructor(key: Ed25519PrivateKey) {
    const x = base64url(key.publicKey.raw);
    const d = base64url(key.raw.subarray(0, SEED_BYTES));
    this.#private = createPrivateKey({ key: { kty: "OKP", crv: "Ed25519", d, x }, format: "jwk" });
  }

  sign(bytes: Uint8Array): Uint8Array {
    return Uint8Array.from(sign(undefined, bytes, this.#private));
  }

  /** Whether `signature` is that of the owner of this peer id. */
  verify(peer: string, bytes: Uint8Array, signature: Uint8Array): boolean {
    const key = this.#publicOf(peer);
    return key !== undefined && verify(undefined, bytes, key, signature);
  }

  #publicOf(peer: string): KeyObject | undefined {
    const known = this.#publics.get(peer);
    if (known !== undefined) return known;
    const made = publicKeyOf(peer);
    if (made === undefined) return undefined;
    if (this.#publics.size >= KEYS_MAX) this.#publics.clear();
    this.#publics.set(peer, made);
    return made;
  }
}

/** The key in an Ed25519 peer id; `undefined` if it is none. */
function publicKeyOf(peer: string): KeyObject | undefined {
  try {
    const { publicKey } = peerIdFromString(peer);
    if (publicKey?.type !== "Ed25519") return undefined;
    const x = base64url(publicKey.raw);
    return createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
  } catch {
    return undefined;
  }
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64url");
}
