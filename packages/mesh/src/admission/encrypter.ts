import type {
  ConnectionEncrypter,
  MessageStream,
  SecureConnectionOptions,
  SecuredConnection,
} from "@libp2p/interface";
import { decodeHandshake, encodeDecision, HANDSHAKE_BYTES_MAX } from "../codec/admission-codec.ts";
import type { HandshakeMessage } from "../codec/admission-codec.ts";
import type { AdmissionRefusal } from "../core/trust/statements.ts";
import { boundedWords } from "../host/lengths.ts";
import { thriftyNoise } from "./noise.ts";
import type { NoiseComponents } from "./noise.ts";

/** Names under which Noise runs: two nodes of different admission cannot even begin. */
export const CERTIFICATE_NOISE = "/klatsch/noise/1";
export const OPEN_NOISE = "/klatsch/open-noise/1";
/** What every other libp2p node speaks. */
const PLAIN_NOISE = "/noise";

/** Whether a connection's encrypter is Noise, which encrypts within `send` and into other memory. */
export function isNoise(encryption: string | undefined): boolean {
  return encryption === CERTIFICATE_NOISE || encryption === OPEN_NOISE || encryption === PLAIN_NOISE;
}

/** How long a refused peer may take to read why, in milliseconds. */
const FAREWELL_MS = 500;

/** Why a connection is not given out. */
export interface Refusal {
  readonly code: AdmissionRefusal;
  readonly detail: string;
  /** Whether this end refused, or the other one did. */
  readonly byUs: boolean;
}

/** The exchange on one connection, as one end sees it. */
export interface Handshake {
  introduction(): Uint8Array;
  /** Judges the other's introduction. */
  judge(message: HandshakeMessage | undefined): Refusal | undefined;
  /** Our last word. */
  decision(refusal: Refusal | undefined): Uint8Array;
  /** Hears the other's last word, by which we may know more. */
  conclude(message: HandshakeMessage | undefined): Refusal | undefined;
}

/** Who is let in. */
export interface AdmissionRules {
  /** Name of the encrypter. */
  readonly protocol: string;
  begin(peer: string): Handshake;
  /** A connection was refused; `peer` is unknown of a node that did not get as far as Noise. */
  onRefused(peer: string | undefined, refusal: Refusal): void;
}

/** What libp2p's `connectionEncrypters` is a list of. */
export type EncrypterFactory = (components: NoiseComponents) => ConnectionEncrypter;

/** What a node puts into libp2p: ours, and under the names of the others such as refuse and count. */
export function admissionEncrypters(rules: AdmissionRules): EncrypterFactory[] {
  const foreign = otherMode(rules);
  return [
    (components) => new AdmissionEncrypter(rules, thriftyNoise(components)),
    (components) => new AdmissionEncrypter(foreign, thriftyNoise(components)),
    () => new RefusingEncrypter(rules),
  ];
}

/** Answers who speaks the other admission that this node does not: the usual mistake in a configuration. */
function otherMode(rules: AdmissionRules): AdmissionRules {
  const isOpen = rules.protocol === OPEN_NOISE;
  const detail = isOpen
    ? "this node is open, the peer asks for certificates"
    : "this node asks for certificates, the peer is open";
  const refusal: Refusal = { code: "ADMISSION_MODE", detail, byUs: true };
  const notices = { rotations: [], revocations: [] };
  const word = (): Uint8Array => encodeDecision({ refusal: refusal.code, detail, wallMs: 0, notices });
  const handshake: Handshake = {
    introduction: word,
    judge: () => refusal,
    decision: word,
    conclude: () => refusal,
  };
  return {
    protocol: isOpen ? CERTIFICATE_NOISE : OPEN_NOISE,
    begin: () => handshake,
    onRefused: (peer, refused) => rules.onRefused(peer, refused),
  };
}

/**
 * Noise, and inside it who the two ends are to each other: only then is the connection given out. So a stranger gets no
 * stream and no protocol, whatever transport carried it. The initiator introduces itself first, and learns of the other's
 * certificate only once its own was accepted.
 */
class AdmissionEncrypter implements ConnectionEncrypter {
  readonly protocol: string;
  readonly #rules: AdmissionRules;
  readonly #noise: ConnectionEncrypter;

  constructor(rules: AdmissionRules, inner: ConnectionEncrypter) {
    this.protocol = rules.protocol;
    this.#rules = rules;
    this.#noise = inner;
  }

  async secureOutbound(
    connection: MessageStream,
    options?: SecureConnectionOptions,
  ): Promise<SecuredConnection> {
    const secured = await this.#noise.secureOutbound(connection, options);
    return await this.#admit(secured, "initiator", options);
  }

  async secureInbound(
    connection: MessageStream,
    options?: SecureConnectionOptions,
  ): Promise<SecuredConnection> {
    const secured = await this.#noise.secureInbound(connection, options);
    return await this.#admit(secured, "responder", options);
  }

  async #admit(
    secured: SecuredConnection,
    role: "initiator" | "responder",
    options?: SecureConnectionOptions,
  ): Promise<SecuredConnection> {
    const peer = secured.remotePeer.toString();
    const words = boundedWords(secured.connection, HANDSHAKE_BYTES_MAX);
    const handshake = this.#rules.begin(peer);
    const exchange: Exchange = {
      say: async (...messages) => {
        await words.writeV(messages, options);
      },
      hear: async () => decodeHandshake((await words.read(options)).subarray()),
    };
    const refusal = await (role === "initiator"
      ? initiate(handshake, exchange)
      : respond(handshake, exchange));
    if (refusal === undefined) {
      words.unwrap();
      return secured;
    }
    this.#rules.onRefused(peer, refusal);
    // In order, or a reset would overtake the last word.
    await secured.connection.close({ signal: AbortSignal.timeout(FAREWELL_MS) }).catch(() => undefined);
    throw new Error(`not admitted: ${refusal.code}`);
  }
}

interface Exchange {
  say(...messages: Uint8Array[]): Promise<void>;
  hear(): Promise<HandshakeMessage | undefined>;
}

async function initiate(handshake: Handshake, exchange: Exchange): Promise<Refusal | undefined> {
  await exchange.say(handshake.introduction());
  const first = await exchange.hear();
  if (first?.type === "decision") return handshake.conclude(first); // It does not say who it is: refused.
  const refusal = handshake.judge(first) ?? handshake.conclude(await exchange.hear());
  if (refusal?.byUs !== false) await exchange.say(handshake.decision(refusal));
  return refusal;
}

async function respond(handshake: Handshake, exchange: Exchange): Promise<Refusal | undefined> {
  const refusal = handshake.judge(await exchange.hear());
  if (refusal !== undefined) {
    await exchange.say(handshake.decision(refusal));
    return refusal;
  }
  await exchange.say(handshake.introduction(), handshake.decision(undefined));
  return handshake.conclude(await exchange.hear());
}

/** Stands under the name that every libp2p node speaks, so that such a one is counted and told apart from silence. */
class RefusingEncrypter implements ConnectionEncrypter {
  readonly protocol: string = PLAIN_NOISE;
  readonly #rules: AdmissionRules;

  constructor(rules: AdmissionRules) {
    this.#rules = rules;
  }

  secureOutbound(_connection: MessageStream, options?: SecureConnectionOptions): Promise<SecuredConnection> {
    return this.#refuse(options?.remotePeer?.toString());
  }

  /** Without a byte of Noise: what we do not speak costs us nothing. */
  secureInbound(): Promise<SecuredConnection> {
    return this.#refuse(undefined);
  }

  #refuse(peer: string | undefined): Promise<never> {
    const code = "NO_CERTIFICATE";
    this.#rules.onRefused(peer, { code, detail: "the peer is an ordinary libp2p node", byUs: true });
    return Promise.reject(new Error(`not admitted: ${code}`));
  }
}
