import { createCipheriv, createDecipheriv, createSecretKey } from "node:crypto";
import type { KeyObject } from "node:crypto";
import { Socket } from "node:net";
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
    const whole = sealed.subarray(); // A copy only where it was not put together before: see `inOnePiece`.
    const end = whole.length - TAG_BYTES;
    const decipher = createDecipheriv(CIPHER, keyOf(k), nonce, TAG);
    decipher.setAuthTag(whole.subarray(end));
    const plain = decipher.update(whole.subarray(0, end));
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
  const { socket } = connection as { readonly socket?: unknown };
  if (socket instanceof Socket) {
    Object.assign(connection, { sendData: (data: Uint8ArrayList) => writeAtOnce(socket, data) });
  }
  return connection;
}

/** In one system call, where libp2p makes one for each piece: between two long ones lie a tag and a length, 18 bytes. */
function writeAtOnce(
  socket: Socket,
  bytes: Uint8ArrayList,
): { readonly sentBytes: number; readonly canSendMore: boolean } {
  const pieces = [...bytes];
  const areSeveral = pieces.length > 1;
  if (areSeveral) socket.cork();
  for (const piece of pieces) socket.write(piece);
  if (areSeveral) socket.uncork();
  return { sentBytes: bytes.byteLength, canSendMore: !socket.writableNeedDrain };
}

/**
 * Two things that libp2p does with each chunk and message it reads. Its decoder learns from an exception that a chunk has ended:
 * where little is sent that was 7 % of a node's work; a length that cannot be there yet says the same. And a message
 * that came in several chunks is copied into new memory to be decrypted: with much of that the collector has to go
 * through the whole heap again and again.
 */
function readingQuietly(secured: SecuredConnection): SecuredConnection {
  const { connection } = secured;
  const { decoder, decrypt } = connection as { readonly decoder?: unknown; readonly decrypt?: unknown };
  if (decoder instanceof LengthPrefixedDecoder) Object.assign(decoder, { lengthDecoder });
  if (typeof decrypt === "function") {
    const inner = decrypt.bind(connection) as (sealed: Bytes) => Uint8ArrayList;
    Object.assign(connection, { decrypt: (sealed: Bytes) => inner(inOnePiece(sealed)) });
  }
  return secured;
}

function lengthDecoder(bytes: Uint8ArrayList): number {
  return bytes.byteLength < LENGTH_BYTES ? MESSAGE_BYTES_MAX : bytes.getUint16(0);
}

/** Where a message is put together, to be decrypted at once into other memory. */
const scratch: Buffer = Buffer.allocUnsafeSlow(MESSAGE_BYTES_MAX);

/** A message in one piece, until the next one is. Small ones are left as they are: those are decrypted in place. */
function inOnePiece(sealed: Bytes): Bytes {
  const { byteLength } = sealed;
  if (sealed instanceof Uint8Array || byteLength < SMALL_BYTES || byteLength > MESSAGE_BYTES_MAX)
    return sealed;
  const pieces = [...sealed];
  if (pieces.length === 1) return sealed;
  let at = 0;
  for (const piece of pieces) {
    scratch.set(piece, at);
    at += piece.length;
  }
  return scratch.subarray(0, at);
}
