import { createCipheriv, createDecipheriv, createSecretKey } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { noise } from "@libp2p/noise";
import type { ICryptoInterface } from "@libp2p/noise";
import { asCrypto, defaultCrypto } from "@libp2p/noise/crypto";
import type {
  ConnectionEncrypter,
  MessageStream,
  SecureConnectionOptions,
  SecuredConnection,
} from "@libp2p/interface";
import { LengthPrefixedDecoder } from "@libp2p/utils";
import { Uint8ArrayList } from "uint8arraylist";

type Bytes = Parameters<ICryptoInterface["chaCha20Poly1305Encrypt"]>[0];
export type NoiseComponents = Parameters<ReturnType<typeof noise>>[0];

const CIPHER = "chacha20-poly1305";
const TAG_BYTES = 16;
const TAG = { authTagLength: TAG_BYTES };
/** Below this WebAssembly is faster, in bytes: a cipher of OpenSSL's takes 4 µs to set up. */
const SMALL_BYTES = 700;
/** At either end of a copy. */
const LOOKED_AT_BYTES = 8;
/** Pieces up to this size are copied together, larger ones are encrypted and written where they are. */
const GATHERED_BYTES_MAX: number = 32 * 1024;
/** Bytes of the length before each message of Noise, and the longest message. */
const LENGTH_BYTES = 2;
const MESSAGE_BYTES_MAX = 0xffff;

/**
 * Keys as OpenSSL takes them. A connection has two for as long as it lasts; made anew for each message, as libp2p
 * does it, one costs 18 µs, which is more than the encryption of 16 KiB.
 */
const keys = new WeakMap<Uint8Array, KeyObject>();

function keyOf(bytes: Uint8Array): KeyObject {
  let key = keys.get(bytes);
  if (key === undefined) keys.set(bytes, (key = createSecretKey(bytes)));
  return key;
}

/** Its pieces in order, small neighbours copied together. */
function gathered(bytes: Bytes): Uint8Array[] {
  if (bytes instanceof Uint8Array) return [bytes];
  if (bytes.byteLength <= GATHERED_BYTES_MAX) return [bytes.subarray()];
  const pieces: Uint8Array[] = [];
  let small: Uint8Array[] = [];
  const flush = (): void => {
    if (small.length > 0) pieces.push(Buffer.concat(small));
    small = [];
  };
  for (const piece of bytes) {
    if (piece.length < GATHERED_BYTES_MAX) {
      small.push(piece);
      continue;
    }
    flush();
    pieces.push(piece);
  }
  flush();
  return pieces;
}

/**
 * libp2p offers as room for the result a copy of what is sealed, in one piece; of that the result is in one piece too, and
 * whoever reads it need not put it together. What is offered is not promised, so it is looked at.
 */
function isCopy(dst: Uint8Array | undefined, sealed: Uint8ArrayList, end: number): dst is Uint8Array {
  if (dst?.length !== end) return false;
  for (let at = 0; at < LOOKED_AT_BYTES; at += 1)
    if (dst[at] !== sealed.get(at) || dst[end - 1 - at] !== sealed.get(end - 1 - at)) return false;
  return true;
}

/** libp2p's cryptography for Noise, quicker in the messages of an established connection: those have no associated data. */
const crypto: ICryptoInterface = {
  ...defaultCrypto,
  chaCha20Poly1305Encrypt: (plain, nonce, ad, k) => {
    if (ad.length > 0) return defaultCrypto.chaCha20Poly1305Encrypt(plain, nonce, ad, k);
    if (plain.byteLength < SMALL_BYTES) return asCrypto.chaCha20Poly1305Encrypt(plain, nonce, ad, k);
    const cipher = createCipheriv(CIPHER, keyOf(k), nonce, TAG);
    const sealed = new Uint8ArrayList();
    for (const piece of gathered(plain)) sealed.append(cipher.update(piece));
    cipher.final();
    sealed.append(cipher.getAuthTag());
    return sealed;
  },
  chaCha20Poly1305Decrypt: (sealed, nonce, ad, k, dst) => {
    if (ad.length > 0) return defaultCrypto.chaCha20Poly1305Decrypt(sealed, nonce, ad, k, dst);
    if (sealed.byteLength < SMALL_BYTES) return asCrypto.chaCha20Poly1305Decrypt(sealed, nonce, ad, k, dst);
    const list = sealed instanceof Uint8Array ? new Uint8ArrayList(sealed) : sealed;
    const end = list.byteLength - TAG_BYTES;
    const decipher = createDecipheriv(CIPHER, keyOf(k), nonce, TAG);
    decipher.setAuthTag(list.subarray(end));
    const plain = new Uint8ArrayList();
    const pieces = isCopy(dst, list, end) ? [dst] : list.sublist(0, end);
    for (const piece of pieces) plain.append(decipher.update(piece));
    decipher.final();
    return plain;
  },
};

/**
 * Noise as libp2p speaks it, at less expense: keys are prepared once, the end of a chunk is no exception, and what one send consists of (a length, a header, a
 * tag, each a piece) reaches the socket in as few writes as can be. Each would be a system call and a packet of its own.
 */
export function thriftyNoise(components: NoiseComponents): ConnectionEncrypter {
  return new ThriftyNoise(noise({ crypto })(components));
}

class ThriftyNoise implements ConnectionEncrypter {
  readonly protocol: string;
  readonly #noise: ConnectionEncrypter;

  constructor(inner: ConnectionEncrypter) {
    this.protocol = inner.protocol;
    this.#noise = inner;
  }

  async secureOutbound(
    connection: MessageStream,
    options?: SecureConnectionOptions,
  ): Promise<SecuredConnection> {
    return readingQuietly(await this.#noise.secureOutbound(writingGathered(connection), options));
  }

  async secureInbound(
    connection: MessageStream,
    options?: SecureConnectionOptions,
  ): Promise<SecuredConnection> {
    return readingQuietly(await this.#noise.secureInbound(writingGathered(connection), options));
  }
}

function writingGathered(connection: MessageStream): MessageStream {
  const send = connection.send.bind(connection);
  connection.send = (bytes) => send(new Uint8ArrayList(...gathered(bytes)));
  return connection;
}

/**
 * libp2p's decoder learns from an exception that a chunk has ended, in every chunk: where little is sent that was 7 % of a node's
 * work. A length that cannot be there yet says the same.
 */
function readingQuietly(secured: SecuredConnection): SecuredConnection {
  const { decoder } = secured.connection as { readonly decoder?: unknown };
  if (decoder instanceof LengthPrefixedDecoder) Object.assign(decoder, { lengthDecoder });
  return secured;
}

function lengthDecoder(bytes: Uint8ArrayList): number {
  return bytes.byteLength < LENGTH_BYTES ? MESSAGE_BYTES_MAX : bytes.getUint16(0);
}
