import {
  cutNotices,
  decodeAdmissionMessage,
  encodeAdmissionMessage,
  encodeDecision,
  encodeIntroduction,
} from "../codec/admission-codec.ts";
import type { AdmissionMessage, HandshakeMessage, Notices } from "../codec/admission-codec.ts";
import { encodeCredentials } from "../codec/credentials-codec.ts";
import { Budgets, CHECK_BUDGET } from "../core/budgets.ts";
import { CLOCK_SKEW_MS, grants } from "../core/trust/statements.ts";
import type { Credentials, Validity } from "../core/trust/statements.ts";
import type { MemberRecord } from "../core/messages.ts";
import type { Admitted, Learnt, Verdict } from "../core/trust/trust.ts";
import { MeshError } from "../errors.ts";
import { Announcements } from "./announcements.ts";
import type { AdmissionControl, MemberCertificate } from "./control.ts";
import { openCredentials } from "./credentials.ts";
import { CERTIFICATE_NOISE } from "./encrypter.ts";
import type { Handshake, Refusal } from "./encrypter.ts";
import type { LearntNotices } from "./member-trust.ts";
import type { SharedPolicy } from "../host/state-host.ts";
import { certifiedPolicy } from "./shared-policy.ts";
import { noticesOf, parseNoticesText } from "./notices.ts";
import { Renewals } from "./renewals.ts";
import type { CertificatesInit } from "./renewals.ts";

/** Peers whose certificates are remembered, linked or not: twice what a mesh can have. */
const ADMITTED_MAX = 8_192;
/** Certificates are looked at again after this long at the latest: a wall clock may be set, in milliseconds. */
const REVIEW_MS_MAX: number = 60 * 60 * 1_000;
/** How long links go on after a rotation, so that it can be told over them, in milliseconds. */
const ROTATION_TOLD_MS = 1_000;
/** Peers of whom it was logged that what they told was not taken. */
const LOGGED_MAX = 1_024;
/** Signatures in credentials, about: those of all rotations there can be. */
const CREDENTIALS_CHECKS = 32;
const NOTHING: Notices = { rotations: [], revocations: [] };

/** Only peers with a certificate of the mesh are let in, for as long as it holds. */
export class CertificateAdmission implements AdmissionControl {
  readonly mode = "certificate";
  readonly protocol: string = CERTIFICATE_NOISE;
  readonly #init: CertificatesInit;
  readonly #admitted = new Map<string, Admitted>();
  readonly #renewals: Renewals;
  /** Of credentials: what a peer tells of others does not keep it from showing its own. */
  readonly #shown = new Budgets(CHECK_BUDGET);
  readonly announcements: Announcements;
  #timer: NodeJS.Timeout | undefined;
  #rotating: NodeJS.Timeout | undefined;
  #stopped = false;
  readonly #logged = new Set<string>();

  constructor(init: CertificatesInit) {
    this.#init = init;
    const { key, ports, own, memberTrust } = init;
    const checks = new Budgets(CHECK_BUDGET);
    this.announcements = new Announcements({
      mayCheck: (from) => checks.take(from, ports.monoMs()),
      ...{ self: key.id, mesh: own.mesh, privateKey: key.privateKey },
      isCertified: (record) => this.#isCertified(record),
      onForged: (from, subject) => {
        if (!memberTrust.trust.revocations.has(subject)) ports.onForged(from, subject);
      },
    });
    this.#renewals = new Renewals({
      ...init,
      peers: () => init.ports.linked().flatMap((peer) => this.#admitted.get(peer) ?? []),
      send: (peer, message) => this.#send(peer, message),
      saved: (credentials) => this.#tellAll({ type: "credentials", credentials }),
    });
  }

  get meshId(): string {
    return this.#init.own.mesh;
  }

  begin(peer: string): Handshake {
    const { memberTrust, ports } = this.#init;
    let theirs: Extract<HandshakeMessage, { type: "introduction" }> | undefined;
    return {
      introduction: () =>
        encodeIntroduction({
          wallMs: Math.floor(ports.wallMs()),
          digest: memberTrust.trust.revocations.digest,
          credentials: encodeCredentials(this.#renewals.own),
        }),
      judge: (message) => {
        theirs = message?.type === "introduction" ? message : undefined;
        return theirs === undefined
          ? unreadable(message)
          : this.#judge(peer, theirs.credentials, theirs.wallMs);
      },
      decision: (refusal) => {
        const [notices = NOTHING] = cutNotices(this.#toldTo(peer, refusal, theirs?.digest));
        const wallMs = Math.floor(ports.wallMs());
        return encodeDecision({ refusal: refusal?.code, detail: "", wallMs, notices });
      },
      conclude: (message) => this.#conclude(peer, message),
    };
  }

  onRefused(peer: string | undefined, refusal: Refusal): void {
    this.#init.ports.refused(peer, refusal);
  }

  start(): void {
    setImmediate(() => this.#review()); // Later: nobody can be listening to events yet.
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#rotating);
  }

  isAdmitted(peer: string): boolean {
    return this.#admitted.has(peer);
  }

  isDescribed(record: MemberRecord): boolean {
    return this.#isCertified(record) && this.announcements.isSaid(record, "alive");
  }

  onLinkUp(peer: string): void {
    const { revocations, roots } = this.#init.memberTrust.trust;
    this.#send(peer, { type: "digest", digest: revocations.digest, seq: roots.seq });
    this.#review();
  }

  onFrame(peer: string, payload: Uint8Array): boolean {
    const message = decodeAdmissionMessage(payload);
    if (message === undefined) return false;
    switch (message.type) {
      case "digest":
        this.#answerDigest(peer, message);
        return true;
      case "notices":
        return this.#learn(message.notices, peer);
      case "credentials":
        if (!this.#shown.take(peer, this.#init.ports.monoMs(), CREDENTIALS_CHECKS)) return true; // It had its turn, and shows them when it dials.
        return this.#judge(peer, message.credentials, undefined)?.code !== "TAMPERED";
      case "renew": {
        const member = this.#admitted.get(peer);
        if (member !== undefined) this.#renewals.onAsked(member, this.#wallMs());
        return true;
      }
      case "renewed":
        return this.#renewals.onRenewed(peer, message, this.#wallMs());
    }
  }

  can(peer: string, capability: string): boolean {
    return grants(this.certificate(peer)?.capabilities ?? [], capability);
  }

  certificate(peer: string): MemberCertificate | undefined {
    const admitted =
      peer === this.#init.key.id ? this.#renewals.admitted(this.#wallMs()) : this.#admitted.get(peer);
    return admitted === undefined ? undefined : memberCertificate(admitted);
  }

  async publish(text: string): Promise<void> {
    const notices = parseNoticesText(text);
    if (notices === undefined)
      throw new MeshError("INVALID_OPTIONS", "the text is no revocation or rotation");
    const learnt = this.#init.memberTrust.learn(notices, this.#wallMs());
    await this.#spread(learnt, undefined);
    if (learnt.bad || learnt.refused.length > 0) {
      const why = learnt.refused.join(", ") || "a signature is wrong";
      throw new MeshError("INVALID_OPTIONS", `not all of the text was taken (${why}): is it of this mesh?`);
    }
  }

  policy(prefixes: Readonly<Record<string, string>> | undefined): SharedPolicy {
    return certifiedPolicy(prefixes, {
      credential: () => encodeCredentials(this.#renewals.own),
      judge: (credential, writer, atWallMs) => {
        const found = openCredentials(credential, this.meshId);
        if (found === undefined || found === "foreign") return undefined;
        const verdict = this.#verdict(found, writer, atWallMs);
        if ("code" in verdict) return undefined;
        return (capability) => grants(verdict.admitted.certificate.capabilities, capability);
      },
    });
  }

  // ── judging ────────────────────────────────────────────────────────────────────────────────────

  #judge(peer: string, credentials: Uint8Array, theirWallMs: number | undefined): Refusal | undefined {
    const found = openCredentials(credentials, this.meshId);
    if (found === undefined) return refusal("TAMPERED", "a signature is wrong");
    if (found === "foreign") return refusal("FOREIGN_MESH", "the certificate is of another mesh");
    const wallMs = this.#wallMs();
    const verdict = this.#verdict(found, peer, wallMs);
    if ("code" in verdict) {
      // Of what it showed before, and may be linked by, this takes nothing back: it would be watched over no more.
      this.#holds(peer, wallMs);
      return refusal(verdict.code, why(verdict, wallMs, theirWallMs));
    }
    this.#admitted.delete(peer); // So that the map is in order of age.
    this.#admitted.set(peer, verdict.admitted);
    const [oldest] = this.#admitted.keys();
    if (oldest !== undefined && this.#admitted.size > ADMITTED_MAX) this.#admitted.delete(oldest);
    this.#arm();
    return undefined;
  }

  /** Rotations that the credentials bring along are news like any other. */
  #verdict(credentials: Credentials, peer: string, wallMs: number): Verdict {
    const { trust } = this.#init.memberTrust;
    const { seq } = trust.roots;
    const verdict = trust.judge(credentials, peer, wallMs);
    if (trust.roots.seq > seq) this.#rotated();
    return verdict;
  }

  #conclude(peer: string, message: HandshakeMessage | undefined): Refusal | undefined {
    if (message?.type !== "decision") return unreadable(message);
    if (message.refusal !== undefined) {
      this.#learn(message.notices, peer); // If we were revoked, this proves it.
      const { refusal: code, detail, wallMs } = message;
      return { code, detail: detail || why({ code }, this.#wallMs(), wallMs), byUs: false };
    }
    if (!this.#learn(message.notices, peer)) return refusal("TAMPERED", "a revocation is signed wrongly");
    // It may just have told us so of itself.
    return this.#admitted.has(peer) ? undefined : refusal("REVOKED", "the certificate was revoked");
  }

  /** What goes with our last word: the first of what the peer may not know, or the proof that it was revoked. */
  #toldTo(peer: string, refusal: Refusal | undefined, digest: string | undefined): Notices {
    const { revocations, roots } = this.#init.memberTrust.trust;
    if (refusal?.code === "REVOKED") {
      const its = revocations.list().filter(({ statement }) => statement.body.subject === peer);
      return noticesOf(roots.rotations, its);
    }
    const isTold = refusal === undefined && digest !== revocations.digest;
    return isTold ? noticesOf(roots.rotations, revocations.list()) : NOTHING;
  }

  #isCertified({ peer, name, cloud, tags }: MemberRecord): boolean {
    const certificate = this.#admitted.get(peer)?.certificate;
    if (certificate === undefined) return false;
    const isSame = certificate.name === name && certificate.cloud === cloud;
    return isSame && isSameRecord(certificate.tags, tags);
  }

  /** Looks at one again: who has no certificate that holds has no link. */
  #holds(peer: string, wallMs: number): void {
    const { memberTrust, ports, logger } = this.#init;
    const held = this.#admitted.get(peer);
    if (held === undefined) return;
    const verdict = memberTrust.trust.judge(held.credentials, peer, wallMs);
    if (!("code" in verdict)) {
      this.#admitted.set(peer, verdict.admitted);
      return;
    }
    this.#admitted.delete(peer);
    logger.warn("a member's certificate holds no more", { peerId: peer, code: verdict.code });
    ports.disconnect(peer, `certificate: ${verdict.code}`);
  }

  /** Looks at everybody again: what was learnt, or the time, may have ended a certificate. */
  #review(): void {
    if (this.#stopped) return;
    const { ports } = this.#init;
    const wallMs = this.#wallMs();
    for (const peer of [...this.#admitted.keys()]) this.#holds(peer, wallMs);
    if (this.#renewals.isRevoked(wallMs)) {
      this.stop();
      ports.failed(new MeshError("REVOKED", "this node's key or certificate was revoked; it needs new ones"));
      return;
    }
    this.#renewals.review(wallMs);
    this.#arm();
  }

  #arm(): void {
    if (this.#stopped) return;
    clearTimeout(this.#timer);
    const wallMs = this.#wallMs();
    let nextWallMs = Math.min(wallMs + REVIEW_MS_MAX, this.#renewals.nextWallMs(wallMs));
    for (const { notAfterWallMs } of this.#admitted.values())
      nextWallMs = Math.min(nextWallMs, notAfterWallMs + CLOCK_SKEW_MS + 1);
    this.#timer = setTimeout(() => this.#review(), Math.max(1, Math.ceil(nextWallMs - wallMs)));
    this.#timer.unref();
  }

  // ── revocations and rotations ──────────────────────────────────────────────────────────────────

  #answerDigest(peer: string, theirs: { readonly digest: string; readonly seq: number }): void {
    const { revocations, roots } = this.#init.memberTrust.trust;
    const rotations = theirs.seq < roots.seq ? roots.rotations : [];
    const known = theirs.digest === revocations.digest ? [] : revocations.list();
    if (rotations.length + known.length === 0) return;
    for (const notices of cutNotices(noticesOf(rotations, known)))
      this.#send(peer, { type: "notices", notices });
  }

  /** `false`: something in it is signed wrongly. */
  #learn(notices: Notices, from: string): boolean {
    const learnt = this.#init.memberTrust.learn(notices, this.#wallMs());
    for (const outcome of new Set(learnt.refused)) this.#notTaken(from, outcome);
    this.#spread(learnt, from).catch((error: unknown) =>
      this.#init.logger.error("revocations cannot be saved", { err: error }),
    );
    return !learnt.bad;
  }

  /** Once for each peer: it may tell the same for ever. */
  #notTaken(from: string, outcome: Learnt): void {
    const told = `${from}/${outcome}`;
    if (this.#logged.has(told)) return;
    if (this.#logged.size >= LOGGED_MAX) this.#logged.clear();
    this.#logged.add(told);
    this.#init.logger.warn("a revocation or rotation was not taken", { from, outcome });
  }

  async #spread({ fresh, revoked }: LearntNotices, from: string | undefined): Promise<void> {
    if (fresh.rotations.length + fresh.revocations.length === 0) return;
    for (const { subject } of revoked) this.#init.ports.revoked(subject);
    if (fresh.rotations.length === 0) this.#review();
    else this.#reviewRotated();
    for (const peer of this.#init.ports.linked()) {
      if (peer === from) continue;
      for (const notices of cutNotices(fresh)) this.#send(peer, { type: "notices", notices });
    }
    await this.#init.memberTrust.save();
  }

  /** Once the others have been told: a rotation may end the very links over which they are. */
  #reviewRotated(): void {
    if (this.#stopped) return;
    clearTimeout(this.#rotating);
    this.#rotating = setTimeout(() => this.#review(), ROTATION_TOLD_MS);
  }

  /** A peer showed rotations we did not know. */
  #rotated(): void {
    const { memberTrust, logger } = this.#init;
    const { rotations } = memberTrust.trust.roots;
    const fresh = noticesOf(rotations, []);
    this.#spread({ fresh, revoked: [], bad: false, refused: [] }, undefined).catch((error: unknown) =>
      logger.error("rotations cannot be saved", { err: error }),
    );
  }

  #tellAll(message: AdmissionMessage): void {
    for (const peer of this.#init.ports.linked()) this.#send(peer, message);
  }

  #send(peer: string, message: AdmissionMessage): void {
    this.#init.ports.send(peer, encodeAdmissionMessage(message));
  }

  #wallMs(): number {
    return this.#init.ports.wallMs();
  }
}

function memberCertificate({ certificate, notAfterWallMs }: Admitted): MemberCertificate {
  const { peer, name, cloud, tags, capabilities, serial, notBeforeWallMs } = certificate;
  return { peerId: peer, name, cloud, tags, capabilities, serial, notBeforeWallMs, notAfterWallMs };
}

function refusal(code: Refusal["code"], detail: string): Refusal {
  return { code, detail, byUs: true };
}

function unreadable(message: HandshakeMessage | undefined): Refusal {
  if (message?.type === "foreign")
    return refusal("PROTOCOL_VERSION", `handshake version ${message.version} is not spoken here`);
  return refusal("TAMPERED", "a message of the handshake cannot be read");
}

const REASONS: Partial<Readonly<Record<Refusal["code"], string>>> = {
  REVOKED: "the key or certificate was revoked",
  UNTRUSTED_ISSUER: "the certificate is signed by a key that does not count",
  WRONG_PEER: "the certificate is another peer's",
};

/** In words; empty where the code says it all. */
function why(
  { code, validity }: { readonly code: Refusal["code"]; readonly validity?: Validity | undefined },
  ourWallMs: number,
  theirWallMs: number | undefined,
): string {
  const isOfTime = code === "EXPIRED" || code === "NOT_YET_VALID";
  return isOfTime ? clocks(validity, ourWallMs, theirWallMs) : (REASONS[code] ?? "");
}

/** Where time matters, a person needs to see whose clock is off. */
function clocks(validity: Validity | undefined, ourWallMs: number, theirWallMs: number | undefined): string {
  const parts: string[] = [];
  if (validity !== undefined)
    parts.push(`valid from ${instant(validity.notBeforeWallMs)} to ${instant(validity.notAfterWallMs)}`);
  parts.push(`our clock says ${instant(ourWallMs)}`);
  if (theirWallMs !== undefined) parts.push(`the peer's ${instant(theirWallMs)}`);
  return parts.join(", ");
}

function instant(wallMs: number): string {
  const date = new Date(wallMs);
  return Number.isNaN(date.getTime()) ? `${wallMs}` : date.toISOString();
}

function isSameRecord(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}
