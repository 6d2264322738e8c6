import { decodeTrust, encodeTrust } from "../codec/credentials-codec.ts";
import type { EndorsedText } from "../codec/credentials-codec.ts";
import { hashOfKey } from "../codec/statement-codec.ts";
import type { Notices } from "../codec/admission-codec.ts";
import { REVOCATIONS_MAX } from "../core/trust/revocations.ts";
import type { Credentials, Revocation } from "../core/trust/statements.ts";
import { Trust } from "../core/trust/trust.ts";
import type { Learnt } from "../core/trust/trust.ts";
import { MeshError } from "../errors.ts";
import { readIfPresent, writeDurably } from "../host/files.ts";
import { join } from "node:path";
import { openEndorsed } from "./credentials.ts";
import { openStatement, peekStatement } from "./envelope.ts";

const TRUST_FILE = "trust";

/** What came of notices. */
export interface LearntNotices {
  /** Those that were new here. */
  readonly fresh: Notices;
  readonly revoked: readonly Revocation[];
  /** Something in them is signed wrongly, or is nothing at all. */
  readonly bad: boolean;
  /** Outcomes other than `added` and `known`. */
  readonly refused: readonly Learnt[];
}

/** What this node knows of its mesh's keys, on disk: rotations and revocations outlive every restart. */
export class MemberTrust {
  readonly trust: Trust;
  readonly #dataDir: string;
  #saving: Promise<void> = Promise.resolve();
  #dirty = false;

  private constructor(trust: Trust, dataDir: string) {
    this.trust = trust;
    this.#dataDir = dataDir;
  }

  /** @throws MeshError `CERTIFICATE_INVALID` naming the file. */
  static async open(own: Credentials, dataDir: string, wallMs: number): Promise<MemberTrust> {
    const trust = new Trust(own.mesh, own.genesis);
    const bytes = await readIfPresent(join(dataDir, TRUST_FILE));
    const found = new MemberTrust(trust, dataDir);
    if (bytes !== undefined) found.#load(bytes);
    trust.revocations.prune(wallMs);
    return found;
  }

  /** Takes what another member, or a person, tells of keys. */
  learn(notices: Notices, wallMs: number): LearntNotices {
    const rotations: string[] = [];
    const revocations: Notices["revocations"][number][] = [];
    const revoked: Revocation[] = [];
    const refused: Learnt[] = [];
    let bad = false;
    for (const envelope of notices.rotations) {
      const learnt = this.#rotate(envelope);
      bad ||= learnt === undefined;
      if (learnt === "added") rotations.push(envelope);
      else if (learnt !== undefined && learnt !== "known") refused.push(learnt);
    }
    for (const text of notices.revocations) {
      const unchecked = this.#unchecked(text, wallMs);
      if (unchecked === "refused") refused.push(unchecked);
      if (unchecked !== undefined) continue;
      const entry = openEndorsed("revocation", text);
      const isNews = entry !== undefined && !this.trust.revocations.has(entry.statement.body.subject);
      const learnt = entry === undefined ? undefined : this.trust.revoke(entry, wallMs);
      bad ||= learnt === undefined;
      if (entry !== undefined && learnt === "added") {
        revocations.push(text);
        if (isNews) revoked.push(entry.statement.body); // A root to come signs all of them again.
      } else if (learnt !== undefined && learnt !== "known") refused.push(learnt);
    }
    return { fresh: { rotations, revocations }, revoked, bad, refused };
  }

  #rotate(envelope: string): Learnt | undefined {
    const peeked = peekStatement(envelope);
    if (peeked !== undefined && !this.trust.roots.isCommitted(hashOfKey(peeked.signer))) return "refused";
    const rotation = openStatement("rotation", envelope);
    return rotation === undefined ? undefined : this.trust.rotate(rotation);
  }

  /**
   * What can be said of a revocation without a look at its signatures. Members pass on what others have signed, and checking a
   * signature costs more than making us check it: only what a key of this mesh says to have signed is checked, once.
   */
  #unchecked(text: EndorsedText, wallMs: number): "known" | "refused" | undefined {
    const peeked = peekStatement(text.statement);
    if (peeked === undefined) return undefined;
    const { roots, revocations } = this.trust;
    if (revocations.isKnown(peeked.id)) return "known";
    if (text.delegation === "") return roots.isTrusted(peeked.signer, wallMs) ? undefined : "refused";
    const delegator = peekStatement(text.delegation)?.signer ?? "";
    if (!roots.isTrusted(delegator, wallMs)) return "refused";
    const delegation = openStatement("delegation", text.delegation);
    return delegation === undefined || delegation.body.key === peeked.signer ? undefined : "refused";
  }

  /** Resolves once all that is known now is on disk; what comes meanwhile shares one more write. */
  save(): Promise<void> {
    if (!this.#dirty) {
      this.#dirty = true;
      this.#saving = this.#saving.catch(() => undefined).then(() => this.#write());
    }
    return this.#saving;
  }

  async #write(): Promise<void> {
    this.#dirty = false;
    const { mesh, roots, revocations } = this.trust;
    await writeDurably(this.#dataDir, TRUST_FILE, encodeTrust(mesh, roots.rotations, revocations.list()));
  }

  #load(bytes: Uint8Array): void {
    const text = decodeTrust(bytes, REVOCATIONS_MAX);
    if (text === undefined) throw damaged(this.#dataDir);
    if (text.mesh !== this.trust.mesh) return; // The node has changed meshes: other keys, other revocations.
    for (const envelope of text.rotations) {
      const rotation = openStatement("rotation", envelope);
      if (rotation === undefined || this.trust.rotate(rotation) === "refused") throw damaged(this.#dataDir);
    }
    for (const entry of text.revocations) {
      const revocation = openEndorsed("revocation", entry);
      if (revocation === undefined) throw damaged(this.#dataDir);
      // Judged when it was learnt: that its signer has run out since takes nothing back.
      this.trust.revocations.add(revocation);
    }
  }
}

function damaged(dataDir: string): MeshError {
  const file = join(dataDir, TRUST_FILE);
  return new MeshError(
    "CERTIFICATE_INVALID",
    `${file} is damaged; restore it, or remove it, and the mesh will tell the revocations again`,
  );
}
