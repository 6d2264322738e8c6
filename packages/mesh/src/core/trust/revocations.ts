import { RENEWABLE_MS } from "./statements.ts";
import type { Endorsed, Revocation } from "./statements.ts";

/** Revocations a node keeps. */
export const REVOCATIONS_MAX = 4_096;
/** Of these, what one admin key may fill: a stolen one must not crowd out the root's. */
const REVOCATIONS_PER_ADMIN_MAX = 1_024;

/** What was revoked: a set that only grows, but for entries so old that they forbid nothing any more. */
export class Revocations {
  readonly #entries = new Map<string, Endorsed<Revocation>>();
  readonly #subjects = new Map<string, { byRoot: boolean }>();
  readonly #perAdmin = new Map<string, number>();
  #digest = 0n;

  get size(): number {
    return this.#entries.size;
  }

  /** Equal sets, equal digests; in hexadecimal digits. */
  get digest(): string {
    return this.#digest.toString(16);
  }

  list(): readonly Endorsed<Revocation>[] {
    return [...this.#entries.values()];
  }

  isKnown(id: string): boolean {
    return this.#entries.has(id);
  }

  /** Whether a key or serial was revoked; `byRoot`: only the root's word counts, as against an admin. */
  has(subject: string, byRoot = false): boolean {
    const found = this.#subjects.get(subject);
    return found !== undefined && (!byRoot || found.byRoot);
  }

  /** `full`: a limit is reached. Whoever calls has checked who signed. */
  add(entry: Endorsed<Revocation>): "added" | "known" | "full" {
    const { id, signer, body } = entry.statement;
    if (this.#entries.has(id)) return "known";
    const admin = entry.delegation === undefined ? undefined : signer;
    const ofAdmin = admin === undefined ? 0 : (this.#perAdmin.get(admin) ?? 0);
    if (this.#entries.size >= REVOCATIONS_MAX || ofAdmin >= REVOCATIONS_PER_ADMIN_MAX) return "full";
    if (admin !== undefined) this.#perAdmin.set(admin, ofAdmin + 1);
    this.#entries.set(id, entry);
    this.#digest ^= BigInt(`0x${id}`);
    const subject = this.#subjects.get(body.subject);
    this.#subjects.set(body.subject, { byRoot: subject?.byRoot === true || admin === undefined });
    return "added";
  }

  /** Lets go of what has outlived every certificate it could forbid. */
  prune(wallMs: number): void {
    const kept = this.list().filter(({ statement }) => !isOutlived(statement.body, wallMs));
    if (kept.length === this.#entries.size) return;
    this.#entries.clear();
    this.#subjects.clear();
    this.#perAdmin.clear();
    this.#digest = 0n;
    for (const entry of kept) this.add(entry);
  }
}

export function isOutlived(revocation: Revocation, wallMs: number): boolean {
  return wallMs > revocation.atWallMs + RENEWABLE_MS;
}
