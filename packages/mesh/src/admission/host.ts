import type { Clock, Logger } from "@klatsch/kit";
import type { MemberMessage, MemberRecord } from "../core/messages.ts";
import type { MeshError } from "../errors.ts";
import type { Identity } from "../host/identity.ts";
import type { Links } from "../host/links.ts";
import type { LinkNode } from "../host/node.ts";
import type { MeshOptions } from "../options.ts";
import { openAdmission } from "./admission.ts";
import type { OpenedAdmission } from "./admission.ts";
import type { AdmissionControl, AdmissionPorts } from "./control.ts";
import { admissionEncrypters } from "./encrypter.ts";
import type { EncrypterFactory, Refusal } from "./encrypter.ts";

/** What the mesh around admission provides, once it is there. */
interface MeshAround extends Pick<AdmissionPorts, "refused" | "revoked" | "expiring" | "renewed" | "failed"> {
  /** A member said what it should not, in these words. */
  onForged(from: string, what: string): void;
  links(): Links | undefined;
  node(): LinkNode | undefined;
}

/** Joins admission to the links, the libp2p node and the events of one mesh. */
export class AdmissionHost implements AdmissionPorts {
  readonly #clock: Clock;
  readonly #logger: Logger;
  #opened: OpenedAdmission | undefined;
  #around: MeshAround | undefined;

  private constructor(options: MeshOptions) {
    this.#clock = options.clock;
    this.#logger = options.logger;
  }

  /** @throws MeshError `INVALID_OPTIONS`, `CERTIFICATE_INVALID`, `REVOKED`. */
  static async open(options: MeshOptions, { privateKey }: Identity): Promise<AdmissionHost> {
    const host = new AdmissionHost(options);
    const { admission, dataDir, logger, random } = options;
    host.#opened = await openAdmission({
      ...{ admission, dataDir, logger, random, privateKey, asked: options, ports: host },
    });
    return host;
  }

  get control(): AdmissionControl {
    return this.#present().control;
  }

  /** What the node and its mesh are called. */
  get description(): OpenedAdmission["description"] {
    return this.#present().description;
  }

  get encrypters(): EncrypterFactory[] {
    return admissionEncrypters(this.control);
  }

  attach(around: MeshAround): void {
    this.#around = around;
  }

  // ── announcements ──────────────────────────────────────────────────────────────────────────────

  /** A message of membership as it leaves; signed where there are certificates. */
  outgoing(message: MemberMessage): MemberMessage {
    return this.control.announcements?.outgoing(message) ?? message;
  }

  /** A message of membership as it may be believed, if any of it may. */
  incoming(from: string, message: MemberMessage): MemberMessage | undefined {
    const { announcements } = this.control;
    return announcements === undefined ? message : announcements.incoming(from, message);
  }

  /** Our record for a hello. */
  sealed(record: MemberRecord): MemberRecord {
    return this.control.announcements?.sealed(record, "alive") ?? record;
  }

  // ── what admission asks for ────────────────────────────────────────────────────────────────────

  wallMs(): number {
    return this.#clock.now().wallMs;
  }

  monoMs(): number {
    return this.#clock.now().monoMs;
  }

  linked(): readonly string[] {
    return this.#around?.links()?.upPeers() ?? [];
  }

  send(peer: string, payload: Uint8Array): void {
    this.#around?.links()?.sendAdmission(peer, payload);
  }

  disconnect(peer: string, reason: string): void {
    this.#around?.links()?.disconnect(peer, reason);
    const node = this.#around?.node();
    for (const connection of node?.connections() ?? []) {
      if (connection.remotePeer.toString() === peer) node?.hangUp(connection, new Error(reason));
    }
  }

  refused(peer: string | undefined, refusal: Refusal): void {
    this.#around?.refused(peer, refusal);
  }

  revoked(peer: string): void {
    this.#logger.warn("revoked", { subject: peer });
    this.#around?.revoked(peer);
  }

  onForged(from: string, subject: string): void {
    const what =
      from === subject
        ? "a member calls itself what its certificate does not"
        : `a member told of ${subject} what that one never said`;
    this.#around?.onForged(from, what);
  }

  expiring(notAfterWallMs: number, daysLeft: number): void {
    this.#logger.warn("this node's certificate is about to end", { notAfterWallMs, daysLeft });
    this.#around?.expiring(notAfterWallMs, daysLeft);
  }

  renewed(notAfterWallMs: number): void {
    this.#logger.info("this node's certificate was renewed", { notAfterWallMs });
    this.#around?.renewed(notAfterWallMs);
  }

  failed(error: MeshError): void {
    this.#around?.failed(error);
  }

  #present(): OpenedAdmission {
    if (this.#opened === undefined) throw new Error("admission is not open");
    return this.#opened;
  }
}
