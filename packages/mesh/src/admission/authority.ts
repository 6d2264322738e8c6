import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { systemClock } from "@klatsch/kit";
import type { Clock } from "@klatsch/kit";
import { z } from "zod";
import { PEER_PATTERN } from "../codec/record-codec.ts";
import { hashOfKey, meshIdOf, SERIAL_PATTERN } from "../codec/statement-codec.ts";
import { REVOCATIONS_MAX } from "../core/trust/revocations.ts";
import { CERTIFICATE_LIFE_MS_MAX, ROTATION_OVERLAP_MS_MAX, ROTATIONS_MAX } from "../core/trust/statements.ts";
import type {
  Credentials,
  Delegation,
  Endorsed,
  Revocation,
  Signed,
  Validity,
} from "../core/trust/statements.ts";
import { MeshError } from "../errors.ts";
import { makeDirectory } from "../host/files.ts";
import { makeKey, readKey } from "../host/key-file.ts";
import { clockSchema, directorySchema, parseWith } from "../schemas.ts";
import { adoptNode } from "./adopt.ts";
import { alone } from "./authority-lock.ts";
import { isMissing, readAuthorityFile, writeAuthorityFile } from "./authority-file.ts";
import type { AuthorityFile } from "./authority-file.ts";
import { adoptSchema, certificateSchema } from "./certificate-options.ts";
import type { AdoptInit, CertificateInit } from "./certificate-options.ts";
import { credentialsText } from "./credentials.ts";
import { sealStatement, signingKey } from "./envelope.ts";
import type { SigningKey } from "./envelope.ts";
import { noticesText } from "./notices.ts";

const DAY_MS: number = 24 * 60 * 60 * 1_000;
const CERTIFICATE_LIFE_MS: number = 90 * DAY_MS;
const DELEGATION_LIFE_MS: number = 365 * DAY_MS;
const ADMIN_KEY_FILE = "admin.key";
/** Of root number 0, 1, …: the highest is the committed next one, which belongs elsewhere until it is used. */
const rootKeyFile = (seq: number): string => `root-${seq}.key`;

/** Where a mesh's root or admin key is. */
export interface AuthorityInit {
  /** Directory of the key and of `mesh.json`. */
  readonly directory: string;
  /** For tests. Default: the machine's clock. */
  readonly clock?: Clock | undefined;
}

/**
 * Holds the root key of a mesh, or an admin key that the root delegated to. Belongs on no node. Several processes may use one
 * directory: their changes come one after the other, and one that waits 5 s for another's fails with `STORE_LOCKED`.
 */
export interface MeshAuthority {
  /** 64 hexadecimal digits; stays the same for ever. */
  readonly meshId: string;
  readonly role: "root" | "admin";
  /** The key's own peer id, as revocations and `adopt` name it. */
  readonly keyId: string;
  /**
   * A membership certificate, as text: one line for the node's `certificate` option or file. What other processes revoked or
   * rotated is known since this object was made, or last revoked, rotated, delegated or adopted. @throws MeshError `INVALID_OPTIONS`.
   */
  issueCertificate(init: CertificateInit): string;
  /**
   * Ends a peer or admin key (`12D3KooW…`) or one certificate (its serial), for ever. The text goes to any running member
   * (`mesh.admission.publish`), which tells all others. @throws MeshError `INVALID_OPTIONS`, `AUTHORITY_INVALID`, `STORE_LOCKED`, `STORE_FAILED`.
   */
  revoke(subject: string): Promise<string>;
  /**
   * Makes an admin key in `directory`, or prolongs the one in it: it may issue and revoke for `lifeMs` (default 365 days).
   * @throws MeshError `INVALID_OPTIONS`, `STORE_LOCKED`, `STORE_FAILED`; `AUTHORITY_INVALID` without the root key.
   */
  delegate(init: { readonly directory: string; readonly lifeMs?: number | undefined }): Promise<void>;
  /**
   * The next root takes over; the old one counts for `overlapMs` more (default 30 days, 0 if it was stolen). The text is to be
   * published like a revocation; after the overlap only what the new root or its admins signed is valid.
   * @throws MeshError `INVALID_OPTIONS`, `STORE_LOCKED`, `STORE_FAILED`; `AUTHORITY_INVALID` if the next root's key file is not there.
   */
  rotate(init?: { readonly overlapMs?: number | undefined }): Promise<string>;
  /**
   * Gives a node that waits for it (`startEnrolment`) a certificate and a configuration. The node's peer id is in the address
   * and pinned; both ends prove to each other that they know the code.
   * @throws MeshError `INVALID_OPTIONS`, `ALREADY_ADOPTED`, `ENROL_REFUSED` (`outcome` `unknown`: the node did not confirm).
   */
  adopt(init: AdoptInit): Promise<{ readonly peerId: string; readonly certificate: string }>;
}

/**
 * Makes a new mesh: its root key and the key that will replace it, mode 0600. Move `root-1.key` somewhere safe: it is
 * needed for `rotate` only, and whoever steals `root-0.key` alone can be shut out with it.
 * @throws MeshError `INVALID_OPTIONS`, `STORE_LOCKED`, `STORE_FAILED`; `AUTHORITY_INVALID` if the directory holds a mesh already.
 */
export async function createMeshRoot(init: AuthorityInit): Promise<MeshAuthority> {
  const { directory } = parseWith(authoritySchema, init);
  await makeDirectory(directory);
  await alone(directory, async () => {
    if (!(await isMissing(directory))) {
      throw new MeshError("AUTHORITY_INVALID", `${directory} holds the keys of a mesh already`);
    }
    // A creation that was cut short left keys that nobody has seen: they are as good as new ones.
    const root = await rootKey(directory, 0, true);
    const next = await rootKey(directory, 1, true);
    const genesis = { root: root.id, nextHash: hashOfKey(next.id) };
    await writeAuthorityFile(directory, { genesis, rotations: [], delegation: undefined, revocations: [] });
  });
  return await openAuthority(init);
}

/**
 * Opens the directory of a root or admin key.
 * @throws MeshError `INVALID_OPTIONS`, `AUTHORITY_INVALID`, `IDENTITY_DAMAGED`, `STORE_FAILED`.
 */
export async function openAuthority(init: AuthorityInit): Promise<MeshAuthority> {
  const { directory, clock } = parseWith(authoritySchema, init);
  return new KeyAuthority(directory, await readOpened(directory), clock ?? systemClock);
}

/** What an authority's directory holds now. */
interface Opened {
  readonly file: AuthorityFile;
  readonly key: SigningKey;
}

async function readOpened(directory: string): Promise<Opened> {
  const file = await readAuthorityFile(directory);
  const key =
    file.delegation === undefined
      ? await rootKey(directory, file.rotations.length, false)
      : await adminKey(directory);
  if (file.delegation !== undefined && file.delegation.body.key !== key.id) {
    throw new MeshError(
      "AUTHORITY_INVALID",
      `${directory}: mesh.json is of another key than ${ADMIN_KEY_FILE}`,
    );
  }
  return { file, key };
}

class KeyAuthority implements MeshAuthority {
  readonly meshId: string;
  readonly #directory: string;
  readonly #clock: Clock;
  #file: AuthorityFile;
  #key: SigningKey;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(directory: string, { file, key }: Opened, clock: Clock) {
    this.meshId = meshIdOf(file.genesis);
    this.#directory = directory;
    this.#file = file;
    this.#key = key;
    this.#clock = clock;
  }

  get role(): "root" | "admin" {
    return this.#file.delegation === undefined ? "root" : "admin";
  }

  get keyId(): string {
    return this.#key.id;
  }

  issueCertificate(init: CertificateInit): string {
    const options = parseWith(certificateSchema, init);
    const { peer, name, cloud, tags, capabilities } = options;
    if (this.#file.revocations.some(({ statement }) => statement.body.subject === peer)) {
      throw new MeshError("INVALID_OPTIONS", `peer: ${peer} was revoked; give the node a new key`);
    }
    const serial = randomBytes(16).toString("hex");
    const validity = this.#validity(options.lifeMs ?? CERTIFICATE_LIFE_MS, this.#file.delegation?.body);
    const body = { mesh: this.meshId, peer, name, cloud, tags, capabilities, ...validity, serial };
    const credentials: Credentials = {
      mesh: this.meshId,
      genesis: this.#file.genesis,
      rotations: this.#file.rotations,
      certificate: this.#endorse(sealStatement("certificate", body, this.#key)),
      renewal: undefined,
    };
    return credentialsText(credentials);
  }

  async revoke(subject: string): Promise<string> {
    parseWith(subjectSchema, subject, "subject");
    return await this.#inTurn(() => this.#revoke(subject));
  }

  async #revoke(subject: string): Promise<string> {
    if (this.#file.revocations.length >= REVOCATIONS_MAX) {
      throw new MeshError("AUTHORITY_INVALID", `${REVOCATIONS_MAX} revocations are the most a mesh keeps`);
    }
    const entry = this.#revocation({ mesh: this.meshId, subject, atWallMs: this.#nowWallMs() });
    await this.#save({ ...this.#file, revocations: [...this.#file.revocations, entry] });
    return noticesText(this.#file.rotations, [entry]);
  }

  async delegate(init: { readonly directory: string; readonly lifeMs?: number | undefined }): Promise<void> {
    this.#requireRoot("only the root can delegate");
    const { directory, lifeMs = DELEGATION_LIFE_MS } = parseWith(delegateSchema, init);
    await makeDirectory(directory);
    await this.#catchUp();
    await alone(directory, () => this.#delegate(directory, lifeMs));
  }

  async #delegate(directory: string, lifeMs: number): Promise<void> {
    const there = (await isMissing(directory)) ? undefined : await readAuthorityFile(directory);
    if (there !== undefined && (there.delegation === undefined || meshIdOf(there.genesis) !== this.meshId)) {
      const what = `${directory} holds keys that are no admin key of this mesh`;
      throw new MeshError("AUTHORITY_INVALID", what);
    }
    const advice = "remove it to make a new one";
    const key = signingKey(
      (await readKey(directory, ADMIN_KEY_FILE, advice)) ??
        (await makeKey(directory, ADMIN_KEY_FILE, advice)),
    );
    const body: Delegation = { mesh: this.meshId, key: key.id, ...this.#validity(lifeMs) };
    const delegation = sealStatement("delegation", body, this.#key);
    // Whom the admin has shut out it must not let in again.
    const known = new Set(this.#file.revocations.map(({ statement }) => statement.body.subject));
    const own = (there?.revocations ?? []).filter(({ statement }) => !known.has(statement.body.subject));
    const revocations = [...this.#file.revocations, ...own].slice(0, REVOCATIONS_MAX);
    await writeAuthorityFile(directory, { ...this.#file, delegation, revocations });
  }

  async rotate(init: { readonly overlapMs?: number | undefined } = {}): Promise<string> {
    this.#requireRoot("only the root can be replaced");
    const { overlapMs = ROTATION_OVERLAP_MS_MAX } = parseWith(rotateSchema, init);
    return await this.#inTurn(() => this.#rotate(overlapMs));
  }

  async #rotate(overlapMs: number): Promise<string> {
    const { rotations } = this.#file;
    const seq = rotations.length + 1;
    if (seq > ROTATIONS_MAX)
      throw new MeshError("AUTHORITY_INVALID", `a root can be replaced ${ROTATIONS_MAX} times`);
    const key = await rootKey(this.#directory, seq, false);
    const next = await rootKey(this.#directory, seq + 1, true);
    const atWallMs = this.#nowWallMs();
    const body = { mesh: this.meshId, seq, key: key.id, keyHash: hashOfKey(key.id) };
    const rotation = sealStatement(
      "rotation",
      { ...body, nextHash: hashOfKey(next.id), atWallMs, overlapMs },
      key,
    );
    // Whoever joins after the overlap would not believe the old root's revocations.
    const revocations = this.#file.revocations.map(({ statement }) => this.#revocation(statement.body, key));
    const all = [...rotations, rotation];
    await this.#save({ ...this.#file, rotations: all, revocations });
    this.#key = key;
    // Those before, too: a text may have been lost, and nobody believes a root whose predecessor they never heard of.
    return noticesText(all, revocations);
  }

  async adopt(init: AdoptInit): Promise<{ readonly peerId: string; readonly certificate: string }> {
    // The description, too, before anybody is disturbed.
    const { address, code, configuration, signal, ...description } = parseWith(adoptSchema, init);
    await this.#catchUp();
    return await adoptNode({
      ...{ address, code, configuration, signal, meshId: this.meshId, key: this.#key },
      issue: (peer) => this.issueCertificate({ ...description, peer }),
    });
  }

  #revocation(body: Revocation, key = this.#key): Endorsed<Revocation> {
    return this.#endorse(sealStatement("revocation", body, key));
  }

  #endorse<Body>(statement: Signed<Body>): Endorsed<Body> {
    return { statement, delegation: this.#file.delegation };
  }

  /** From now on; never beyond what the issuer itself may do. */
  #validity(lifeMs: number, within?: Validity): Validity {
    const notBeforeWallMs = this.#nowWallMs();
    const notAfterWallMs = Math.min(notBeforeWallMs + lifeMs, within?.notAfterWallMs ?? Infinity);
    if (notAfterWallMs <= notBeforeWallMs) {
      throw new MeshError(
        "AUTHORITY_INVALID",
        "this admin key has run out; have the root delegate to it again",
      );
    }
    return { notBeforeWallMs, notAfterWallMs };
  }

  /** One change of the file after the other: each begins with what the one before has written, in whichever process. */
  async #inTurn(change: () => Promise<string>): Promise<string> {
    return await this.#next(() =>
      alone(this.#directory, async () => {
        await this.#refresh();
        return await change();
      }),
    );
  }

  /** In turn as well: what was read before a change was written must not be taken for newer than that. */
  async #catchUp(): Promise<void> {
    await this.#next(() => this.#refresh());
  }

  async #next<Result>(act: () => Promise<Result>): Promise<Result> {
    const turn = this.#turn.then(act);
    this.#turn = turn.catch(() => undefined);
    return await turn;
  }

  /** Another process may have revoked or rotated since. */
  async #refresh(): Promise<void> {
    const { file, key } = await readOpened(this.#directory);
    if (meshIdOf(file.genesis) !== this.meshId)
      throw new MeshError("AUTHORITY_INVALID", `${this.#directory} holds the keys of another mesh now`);
    this.#file = file;
    this.#key = key;
  }

  async #save(file: AuthorityFile): Promise<void> {
    await writeAuthorityFile(this.#directory, file);
    this.#file = file;
  }

  #requireRoot(what: string): void {
    if (this.role !== "root") throw new MeshError("AUTHORITY_INVALID", `${this.#directory}: ${what}`);
  }

  #nowWallMs(): number {
    return Math.floor(this.#clock.now().wallMs);
  }
}

const authoritySchema = z.strictObject({ directory: directorySchema, clock: clockSchema.optional() });
const delegateSchema = z.strictObject({
  directory: directorySchema,
  lifeMs: z.number().int().min(60_000).max(CERTIFICATE_LIFE_MS_MAX).optional(),
});
const rotateSchema = z.strictObject({
  overlapMs: z.number().int().min(0).max(ROTATION_OVERLAP_MS_MAX).optional(),
});
const subjectSchema = z
  .string()
  .refine(
    (subject) => PEER_PATTERN.test(subject) || SERIAL_PATTERN.test(subject),
    "must be a peer id (12D3KooW…) or a certificate's serial",
  );

async function rootKey(directory: string, seq: number, makes: boolean): Promise<SigningKey> {
  const name = rootKeyFile(seq);
  const advice = "restore it from a backup";
  const key = await readKey(directory, name, advice);
  if (key !== undefined) return signingKey(key);
  if (!makes) throw new MeshError("AUTHORITY_INVALID", `${join(directory, name)} is needed and not there`);
  return signingKey(await makeKey(directory, name, advice));
}

async function adminKey(directory: string): Promise<SigningKey> {
  const key = await readKey(directory, ADMIN_KEY_FILE, "have the root delegate to a new one");
  if (key === undefined)
    throw new MeshError("AUTHORITY_INVALID", `${join(directory, ADMIN_KEY_FILE)} is not there`);
  return signingKey(key);
}
