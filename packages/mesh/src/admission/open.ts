import { encodeDecision, encodeMeshName } from "../codec/admission-codec.ts";
import type { HandshakeMessage, Notices } from "../codec/admission-codec.ts";
import { MeshError } from "../errors.ts";
import type { SharedPolicy } from "../host/state-host.ts";
import { OPEN_NOISE } from "./encrypter.ts";
import type { Handshake, Refusal } from "./encrypter.ts";
import { openPolicy } from "./shared-policy.ts";
import type { AdmissionControl, AdmissionPorts } from "./control.ts";

/** Anybody who knows the name of the mesh is let in, and may do everything. */
export class OpenAdmission implements AdmissionControl {
  readonly mode = "open";
  readonly meshId: undefined;
  readonly announcements: undefined;
  readonly protocol: string = OPEN_NOISE;
  readonly #mesh: string;
  readonly #ports: AdmissionPorts;

  constructor(mesh: string, ports: AdmissionPorts) {
    this.#mesh = mesh;
    this.#ports = ports;
  }

  begin(_peer: string): Handshake {
    const wallMs = this.#ports.wallMs();
    return {
      introduction: () => encodeMeshName({ mesh: this.#mesh }),
      judge: (message) => this.#judge(message),
      decision: (refusal) =>
        encodeDecision({ refusal: refusal?.code, detail: refusal?.detail ?? "", wallMs, notices: NONE }),
      conclude: (message) => concluded(message),
    };
  }

  onRefused(peer: string | undefined, refusal: Refusal): void {
    this.#ports.refused(peer, refusal);
  }

  start(): void {
    // Nothing runs out here.
  }

  stop(): void {
    // Likewise.
  }

  isAdmitted(): boolean {
    return true;
  }

  isDescribed(): boolean {
    return true;
  }

  onLinkUp(): void {
    // Nothing to tell.
  }

  onFrame(): boolean {
    return false;
  }

  can(): boolean {
    return true;
  }

  certificate(): undefined {
    return undefined;
  }

  publish(): Promise<void> {
    const what = "nothing can be revoked where anybody is let in; give the nodes certificates";
    return Promise.reject(new MeshError("INVALID_OPTIONS", `admission is open: ${what}`));
  }

  policy(prefixes: Readonly<Record<string, string>> | undefined): SharedPolicy {
    return openPolicy(prefixes);
  }

  #judge(message: HandshakeMessage | undefined): Refusal | undefined {
    if (message?.type === "foreign") {
      return {
        code: "PROTOCOL_VERSION",
        detail: `handshake version ${message.version} is not spoken here`,
        byUs: true,
      };
    }
    if (message?.type !== "meshName")
      return { code: "TAMPERED", detail: "the introduction cannot be read", byUs: true };
    if (message.mesh === this.#mesh) return undefined;
    return { code: "MESH_NAME", detail: `this is mesh ${this.#mesh}, not ${message.mesh}`, byUs: true };
  }
}

const NONE: Notices = { rotations: [], revocations: [] };

function concluded(message: HandshakeMessage | undefined): Refusal | undefined {
  if (message?.type !== "decision")
    return { code: "TAMPERED", detail: "the decision cannot be read", byUs: true };
  const { refusal, detail } = message;
  return refusal === undefined ? undefined : { code: refusal, detail, byUs: false };
}
