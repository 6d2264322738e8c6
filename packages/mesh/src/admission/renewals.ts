import type { Logger, Random } from "@klatsch/kit";
import type { AdmissionMessage } from "../codec/admission-codec.ts";
import { nextWarningWallMs, renewAtWallMs, warningDue } from "../core/trust/renewal.ts";
import { CA_CAPABILITY, grants, RENEWABLE_MS } from "../core/trust/statements.ts";
import type { Credentials } from "../core/trust/statements.ts";
import type { Admitted, Verdict } from "../core/trust/trust.ts";
import type { AdmissionPorts } from "./control.ts";
import { openEndorsed } from "./credentials.ts";
import { encodeCredentials } from "../codec/credentials-codec.ts";
import { openStatement, sealStatement } from "./envelope.ts";
import type { SigningKey } from "./envelope.ts";
import type { MemberTrust } from "./member-trust.ts";
import { endorsedText } from "./notices.ts";
import { saveOwnCredentials } from "./own-credentials.ts";

/** Pause between two requests that nobody answered, in milliseconds; shorter for a short certificate. */
const RETRY_MS: number = 10 * 60 * 1_000;
/** One member is given at most one renewal in this part of its certificate's life. */
const RENEWED_PART = 0.1;
const RENEWED_MAX = 8_192;

/** What admission by certificate stands on. */
export interface CertificatesInit {
  readonly own: Credentials;
  readonly key: SigningKey;
  readonly memberTrust: MemberTrust;
  readonly dataDir: string;
  readonly logger: Logger;
  readonly random: Random;
  readonly ports: AdmissionPorts;
}

interface RenewalsInit extends CertificatesInit {
  /** Linked members. */
  peers(): readonly Admitted[];
  send(peer: string, message: AdmissionMessage): void;
  /** Our credentials have been renewed and are on disk. */
  saved(credentials: Uint8Array): void;
}

/** Keeps this node's certificate alive, and others' where this node may. */
export class Renewals {
  readonly #init: RenewalsInit;
  #own: Credentials;
  #renewAtWallMs = Infinity;
  /** Who was asked last, and has not answered. */
  #asked: string | undefined;
  #warned: { notAfterWallMs: number; days: number } | undefined;
  /** When each member was last given a renewal. */
  readonly #given = new Map<string, number>();

  constructor(init: RenewalsInit) {
    this.#init = init;
    this.#own = init.own;
    this.#plan();
  }

  /** What this node shows. */
  get own(): Credentials {
    return this.#own;
  }

  admitted(wallMs: number): Admitted | undefined {
    const verdict = this.#verdict(this.#own, wallMs);
    return "code" in verdict ? undefined : verdict.admitted;
  }

  isRevoked(wallMs: number): boolean {
    const verdict = this.#verdict(this.#own, wallMs);
    return "code" in verdict && verdict.code === "REVOKED";
  }

  /** Asks, warns, or does nothing, as is due. */
  review(wallMs: number): void {
    const notAfterWallMs = this.#notAfter();
    const due = warningDue(notAfterWallMs, wallMs);
    if (due !== undefined && (this.#warned?.notAfterWallMs !== notAfterWallMs || due < this.#warned.days)) {
      this.#warned = { notAfterWallMs, days: due };
      this.#init.ports.expiring(notAfterWallMs, due);
    }
    if (wallMs < this.#renewAtWallMs) return;
    const issuers = this.#init
      .peers()
      .filter(({ certificate }) => grants(certificate.capabilities, CA_CAPABILITY));
    const issuer = issuers[this.#init.random.uint32() % Math.max(1, issuers.length)];
    if (issuer === undefined) return; // Whoever links next is asked: a link up is a review.
    this.#asked = issuer.certificate.peer;
    this.#init.send(this.#asked, { type: "renew" });
    this.#renewAtWallMs = wallMs + Math.min(RETRY_MS, this.#lifeMs() * RENEWED_PART);
  }

  /** When {@link review} has something to do at the latest. */
  nextWallMs(wallMs: number): number {
    const warning = nextWarningWallMs(this.#notAfter(), wallMs) ?? Infinity;
    return Math.min(warning, this.#renewAtWallMs > wallMs ? this.#renewAtWallMs : Infinity);
  }

  /** A member wants its certificate prolonged. */
  onAsked(member: Admitted, wallMs: number): void {
    const own = this.#own.certificate;
    const ca = own.statement.body;
    if (!grants(ca.capabilities, CA_CAPABILITY)) return;
    const { peer, serial, mesh, notBeforeWallMs, notAfterWallMs } = member.certificate;
    const lifeMs = notAfterWallMs - notBeforeWallMs;
    if (wallMs - (this.#given.get(peer) ?? -Infinity) < lifeMs * RENEWED_PART) return;
    const from = Math.floor(wallMs);
    const until = Math.min(from + lifeMs, ca.notAfterWallMs, notBeforeWallMs + RENEWABLE_MS);
    if (until <= member.notAfterWallMs) return; // It would gain nothing.
    this.#given.delete(peer);
    this.#given.set(peer, wallMs);
    const [oldest] = this.#given.keys();
    if (oldest !== undefined && this.#given.size > RENEWED_MAX) this.#given.delete(oldest);
    const body = { mesh, peer, serial, notBeforeWallMs: from, notAfterWallMs: until };
    const statement = sealStatement("renewal", body, this.#init.key);
    this.#init.logger.info("certificate renewed for a member", { peerId: peer, serial });
    this.#init.send(peer, { type: "renewed", statement: statement.envelope, issuer: endorsedText(own) });
  }

  /** A renewal has come. `false`: it is signed wrongly. */
  onRenewed(from: string, message: Extract<AdmissionMessage, { type: "renewed" }>, wallMs: number): boolean {
    if (from !== this.#asked) return true; // Each would cost a few checks.
    this.#asked = undefined;
    const statement = openStatement("renewal", message.statement);
    const issuer = openEndorsed("certificate", message.issuer);
    if (statement === undefined || issuer === undefined) return false;
    const renewed: Credentials = { ...this.#own, renewal: { statement, issuer } };
    const verdict = this.#verdict(renewed, wallMs);
    if ("code" in verdict || verdict.admitted.notAfterWallMs <= this.#notAfter()) return true;
    this.#own = renewed;
    this.#plan();
    saveOwnCredentials(this.#init.dataDir, renewed)
      .then(() => {
        this.#init.saved(encodeCredentials(renewed));
        this.#init.ports.renewed(verdict.admitted.notAfterWallMs);
      })
      .catch((error: unknown) =>
        this.#init.logger.error("the renewed certificate cannot be saved", { err: error }),
      );
    return true;
  }

  #plan(): void {
    const { notBeforeWallMs } = this.#own.renewal?.statement.body ?? this.#own.certificate.statement.body;
    const validity = { notBeforeWallMs, notAfterWallMs: this.#notAfter() };
    this.#renewAtWallMs = renewAtWallMs(validity, this.#init.random);
  }

  #verdict(credentials: Credentials, wallMs: number): Verdict {
    return this.#init.memberTrust.trust.judge(credentials, this.#init.key.id, wallMs);
  }

  #notAfter(): number {
    const base = this.#own.certificate.statement.body.notAfterWallMs;
    const renewal = this.#own.renewal;
    if (renewal === undefined) return base;
    const issuer = renewal.issuer.statement.body.notAfterWallMs;
    return Math.max(base, Math.min(renewal.statement.body.notAfterWallMs, issuer));
  }

  #lifeMs(): number {
    const { notBeforeWallMs, notAfterWallMs } = this.#own.certificate.statement.body;
    return notAfterWallMs - notBeforeWallMs;
  }
}
