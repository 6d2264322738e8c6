import { MeshError } from "../errors.ts";
import { admissionEncrypters, CERTIFICATE_NOISE } from "./encrypter.ts";
import type { AdmissionRules, EncrypterFactory, Handshake, Refusal } from "./encrypter.ts";

/**
 * The way into a mesh of certificates that works inside a libp2p node of the application. The node needs its encrypters
 * when it is created, before there is a mesh to ask: the gate joins the two.
 */
export interface MeshGate {
  /** For `connectionEncrypters` of the node, before `noise()`. */
  readonly encrypters: readonly EncrypterFactory[];
}

/** A gate for one libp2p node and the mesh in it. */
export function meshGate(): MeshGate {
  return new Gate();
}

/** Shut as long as no mesh runs behind it: then connections fail, and whoever dials tries again. */
export class Gate implements MeshGate, AdmissionRules {
  readonly protocol: string = CERTIFICATE_NOISE;
  readonly encrypters: readonly EncrypterFactory[];
  #rules: AdmissionRules | undefined;

  constructor() {
    // Not the last, which refuses ordinary nodes: the application may serve them.
    this.encrypters = admissionEncrypters(this).slice(0, 2);
  }

  /** From now on these decide. @throws MeshError `INVALID_OPTIONS` if others do. */
  open(rules: AdmissionRules): void {
    if (this.#rules !== undefined)
      throw new MeshError("INVALID_OPTIONS", "admission.gate: another mesh uses it");
    this.#rules = rules;
  }

  shut(): void {
    this.#rules = undefined;
  }

  begin(peer: string): Handshake {
    if (this.#rules === undefined) throw new Error("no mesh runs behind this gate");
    return this.#rules.begin(peer);
  }

  onRefused(peer: string | undefined, refusal: Refusal): void {
    this.#rules?.onRefused(peer, refusal);
  }

  /** Whether a connection came through it; else its Klatsch's protocols are not served, and that is counted. */
  admits(encryption: string | undefined, peer: string): boolean {
    if (encryption === this.protocol) return true;
    const detail = "the peer showed no certificate on this connection";
    this.onRefused(peer, { code: "NO_CERTIFICATE", detail, byUs: true });
    return false;
  }
}
