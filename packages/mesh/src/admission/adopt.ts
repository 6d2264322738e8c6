import { createHash } from "node:crypto";
import { CODE_P2P, multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";
import type { EnrolMessage } from "../codec/enrol-codec.ts";
import { CONFIGURATION_LENGTH_MAX } from "../codec/enrol-codec.ts";
import { PEER_PATTERN } from "../codec/record-codec.ts";
import { MeshError } from "../errors.ts";
import { conduits } from "../host/conduits.ts";
import { isSameProof, newNonce, proofOf, readCode } from "./enrol-code.ts";
import { enrolEncrypter } from "./enrol-dialog.ts";
import type { EnrolExchange } from "./enrol-dialog.ts";
import type { SigningKey } from "./envelope.ts";

/** Connections that one adoption may need: the ack may be lost. */
const ATTEMPTS_MAX = 3;
const DIAL_MS = 15_000;

interface AdoptTask {
  /** Full address of the node, `/p2p/…` included: Noise pins it. */
  readonly address: string;
  readonly code: string;
  readonly meshId: string;
  readonly key: SigningKey;
  /** JSON-able; what the node is to know beside its certificate. */
  readonly configuration: unknown;
  readonly signal: AbortSignal | undefined;
  /** Makes the certificate once the node has proven that it knows the code. */
  issue(peer: string): string;
}

/** Adopts a node that waits for it. @throws MeshError `INVALID_OPTIONS`, `ENROL_REFUSED`, `ALREADY_ADOPTED`. */
export async function adoptNode(
  task: AdoptTask,
): Promise<{ readonly peerId: string; readonly certificate: string }> {
  const address = parseAddress(task.address);
  const peer = address.getComponents().at(-1)?.value ?? "";
  const adopting = new Adopting(task, peer, codeOf(task.code), configurationOf(task.configuration));
  const node = await createLibp2p({
    privateKey: task.key.privateKey,
    transports: conduits(),
    connectionEncrypters: [enrolEncrypter((exchange) => adopting.talk(exchange))],
    connectionMonitor: { enabled: false },
    connectionManager: { reconnectRetries: 0, dialTimeout: DIAL_MS, addressDialTimeout: DIAL_MS },
  });
  try {
    let cause: unknown;
    for (let attempt = 0; attempt < ATTEMPTS_MAX && adopting.outcome === undefined; attempt += 1) {
      const signals = [AbortSignal.timeout(DIAL_MS), ...(task.signal === undefined ? [] : [task.signal])];
      // It never ends in a connection: the dialog is all there is.
      cause = await node.dial(address, { signal: AbortSignal.any(signals) }).catch((error: unknown) => error);
      if (!adopting.isGranted) break; // Nothing has happened there: the caller may try again.
    }
    return adopting.result(cause);
  } finally {
    await node.stop();
  }
}

class Adopting {
  readonly #task: AdoptTask;
  readonly #peer: string;
  readonly #code: string;
  readonly #configuration: string;
  #certificate: string | undefined;
  #outcome: "acked" | MeshError | undefined;

  constructor(task: AdoptTask, peer: string, code: string, configuration: string) {
    this.#task = task;
    this.#peer = peer;
    this.#code = code;
    this.#configuration = configuration;
  }

  get outcome(): "acked" | MeshError | undefined {
    return this.#outcome;
  }

  /** Whether the certificate has been sent: the node may have taken it. */
  get isGranted(): boolean {
    return this.#certificate !== undefined;
  }

  result(cause: unknown): { readonly peerId: string; readonly certificate: string } {
    if (this.#outcome === "acked" && this.#certificate !== undefined)
      return { peerId: this.#peer, certificate: this.#certificate };
    if (this.#outcome instanceof MeshError) throw this.#outcome;
    const what = this.isGranted
      ? "the node did not confirm; look whether it has joined before you try again"
      : "the node cannot be reached, or is not the one in the address";
    const outcome = this.isGranted ? "unknown" : "none";
    throw new MeshError("ENROL_REFUSED", `${this.#task.address}: ${what}`, {
      cause,
      outcome,
      retryable: true,
    });
  }

  async talk(exchange: EnrolExchange): Promise<void> {
    const { meshId, key } = this.#task;
    // Noise has checked the address's peer id; without one in it, anybody could have answered.
    if (exchange.peer !== this.#peer) return;
    const nonce = newNonce();
    await exchange.say({ type: "begin", mesh: meshId, nonce });
    const answer = await exchange.hear();
    if (answer.type === "adopted") return await this.#again(exchange);
    if (answer.type !== "challenge") return this.#refused(answer);
    const proven = {
      adopter: key.id,
      node: this.#peer,
      mesh: meshId,
      nonces: [nonce, answer.nonce],
    } as const;
    await exchange.say({ type: "proof", mac: proofOf(this.#code, { by: "adopter", ...proven }) });
    const proof = await exchange.hear();
    if (proof.type !== "proof") return this.#refused(proof);
    if (!isSameProof(proof.mac, proofOf(this.#code, { by: "node", ...proven }))) {
      this.#fail("ENROL_REFUSED", "the node does not know the code: somebody else may be answering");
      return;
    }
    this.#certificate ??= this.#task.issue(this.#peer);
    await this.#grant(exchange, this.#certificate);
  }

  /** The node has closed for us already: our ack was lost. */
  async #again(exchange: EnrolExchange): Promise<void> {
    if (this.#certificate === undefined) {
      this.#fail("ALREADY_ADOPTED", "the node was adopted by this key before");
      return;
    }
    await this.#grant(exchange, this.#certificate);
  }

  async #grant(exchange: EnrolExchange, credentials: string): Promise<void> {
    await exchange.say({ type: "grant", credentials, configuration: this.#configuration });
    const ack = await exchange.hear();
    if (ack.type !== "ack") return this.#refused(ack);
    if (ack.hash !== createHash("sha256").update(credentials).digest("hex")) return;
    this.#outcome = "acked";
    await exchange.say({ type: "done" });
  }

  #refused(answer: EnrolMessage): void {
    if (answer.type !== "refused") return;
    switch (answer.code) {
      case "WRONG_CODE":
        return this.#fail("ENROL_REFUSED", "the code is wrong or has run out");
      case "ALREADY_ADOPTED":
        return this.#fail("ALREADY_ADOPTED", "the node was adopted by somebody else");
      case "BAD_CERTIFICATE":
        return this.#fail("ENROL_REFUSED", "the node finds the certificate not valid: compare the clocks");
      case "BUSY":
        return this.#fail("ENROL_REFUSED", "too many adopt the node at once; try again");
    }
  }

  #fail(code: "ENROL_REFUSED" | "ALREADY_ADOPTED", what: string): void {
    this.#outcome = new MeshError(code, `${this.#task.address}: ${what}`);
  }
}

function parseAddress(text: string): ReturnType<typeof multiaddr> {
  try {
    const address = multiaddr(text);
    const last = address.getComponents().at(-1);
    if (last?.code === CODE_P2P && PEER_PATTERN.test(last.value ?? "")) return address;
  } catch {
    // Told below.
  }
  throw new MeshError(
    "INVALID_OPTIONS",
    "address: must be a multiaddr that ends in /p2p/ and the node's peer id",
  );
}

function codeOf(typed: string): string {
  const code = readCode(typed);
  if (code === undefined)
    throw new MeshError("INVALID_OPTIONS", "code: must be 15 letters and digits, as the node shows it");
  return code;
}

function configurationOf(value: unknown): string {
  const text = jsonOf(value ?? {});
  if (text === undefined || text.length > CONFIGURATION_LENGTH_MAX)
    throw new MeshError(
      "INVALID_OPTIONS",
      `configuration: is no JSON, or more than ${CONFIGURATION_LENGTH_MAX} characters of it`,
    );
  return text;
}

function jsonOf(value: unknown): string | undefined {
  try {
    return JSON.stringify(value);
  } catch {
    return undefined; // It refers to itself, or has a bigint.
  }
}
