import { noise } from "@libp2p/noise";
import type {
  ConnectionEncrypter,
  MessageStream,
  SecureConnectionOptions,
  SecuredConnection,
} from "@libp2p/interface";
import { decodeEnrolMessage, ENROL_BYTES_MAX, encodeEnrolMessage } from "../codec/enrol-codec.ts";
import type { EnrolMessage } from "../codec/enrol-codec.ts";
import { boundedWords } from "../host/lengths.ts";
import type { EncrypterFactory } from "./encrypter.ts";

/** Noise under a third name: a node that waits to be adopted speaks nothing else. */
const ENROL_NOISE = "/klatsch/enrol-noise/1";
/** How long the last word may take to leave, in milliseconds. */
const FAREWELL_MS = 500;

/** Words between adopter and node. */
export interface EnrolExchange {
  /** Peer id of the other end, proven by Noise. */
  readonly peer: string;
  say(message: EnrolMessage): Promise<void>;
  /** @throws Error if the connection ends, the time is up, or what comes is no message. */
  hear(): Promise<EnrolMessage>;
}

/**
 * An adoption is a dialog inside Noise and nothing more: when it is over the connection ends, and libp2p is never given it. So
 * there is no stream, no protocol and no peer to look after.
 */
export function enrolEncrypter(dialog: (exchange: EnrolExchange) => Promise<void>): EncrypterFactory {
  return (components) => new EnrolEncrypter(noise()(components), dialog);
}

class EnrolEncrypter implements ConnectionEncrypter {
  readonly protocol: string = ENROL_NOISE;
  readonly #noise: ConnectionEncrypter;
  readonly #dialog: (exchange: EnrolExchange) => Promise<void>;

  constructor(inner: ConnectionEncrypter, dialog: (exchange: EnrolExchange) => Promise<void>) {
    this.#noise = inner;
    this.#dialog = dialog;
  }

  async secureOutbound(
    connection: MessageStream,
    options?: SecureConnectionOptions,
  ): Promise<SecuredConnection> {
    return await this.#talk(await this.#noise.secureOutbound(connection, options), options);
  }

  async secureInbound(
    connection: MessageStream,
    options?: SecureConnectionOptions,
  ): Promise<SecuredConnection> {
    return await this.#talk(await this.#noise.secureInbound(connection, options), options);
  }

  async #talk(secured: SecuredConnection, options?: SecureConnectionOptions): Promise<never> {
    const words = boundedWords(secured.connection, ENROL_BYTES_MAX);
    try {
      await this.#dialog({
        peer: secured.remotePeer.toString(),
        say: async (message) => await words.write(encodeEnrolMessage(message), options),
        hear: async () => {
          const message = decodeEnrolMessage((await words.read(options)).subarray());
          if (message === undefined) throw new Error("no message of an adoption");
          return message;
        },
      });
    } finally {
      await secured.connection.close({ signal: AbortSignal.timeout(FAREWELL_MS) }).catch(() => undefined);
    }
    throw new Error("the adoption is over");
  }
}
