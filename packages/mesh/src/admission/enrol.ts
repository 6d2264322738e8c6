import { createHash } from "node:crypto";
import { join } from "node:path";
import { callListener, silentLogger, systemClock } from "@klatsch/kit";
import type { Clock, Logger } from "@klatsch/kit";
import type { Libp2p } from "@libp2p/interface";
import { createLibp2p } from "libp2p";
import { z } from "zod";
import { decodeAdoption, encodeAdoption } from "../codec/enrol-codec.ts";
import type { AdoptionRecord, EnrolMessage, EnrolRefusal } from "../codec/enrol-codec.ts";
import { EnrolWindow } from "../core/trust/enrol-window.ts";
import { Trust } from "../core/trust/trust.ts";
import { MeshError } from "../errors.ts";
import { conduits, removeStaleSocket } from "../host/conduits.ts";
import { readIfPresent, writeDurably } from "../host/files.ts";
import { loadIdentity } from "../host/identity.ts";
import type { Identity } from "../host/identity.ts";
import { lockDataDir } from "../host/shared-store.ts";
import {
  addressSchema,
  clockSchema,
  directorySchema,
  functionSchema,
  LISTEN_MAX,
  loggerSchema,
  parseWith,
} from "../schemas.ts";
import { openCredentials } from "./credentials.ts";
import { isSameProof, newCode, newNonce, proofOf } from "./enrol-code.ts";
import { enrolEncrypter } from "./enrol-dialog.ts";
import type { EnrolExchange } from "./enrol-dialog.ts";
import { ADOPTION_FILE, CERTIFICATE_FILE } from "./own-credentials.ts";

/** A whole adoption, the person's part not included, may take this long, in milliseconds. */
const DIALOG_MS = 15_000;
/** Proofs that wait for their turn. */
const DIALOGS_MAX = 8;
/** Connections per second that one host may open. */
const DIALS_PER_SECOND_MAX = 20;
/** Dialogs at once: as many as one host that says nothing may hold by its rate, and some of others beside. */
const PENDING_MAX: number = DIALOGS_MAX + (DIALS_PER_SECOND_MAX * DIALOG_MS) / 1_000;
/** After a wrong proof nobody else is heard for this long, in milliseconds: guessing is slow whatever it costs. */
const WRONG_PAUSE_MS = 1_000;
/** How long an adopted node answers its adopter again, whose ack may be lost, in milliseconds. */
const LINGER_MS = 10_000;

/** Options of `startEnrolment`. */
export interface EnrolmentInit {
  /** Directory of the node that will be: its key is made there, and its certificate put there, in the file `adoption`. */
  readonly dataDir: string;
  /** Multiaddrs to listen on. */
  readonly listen: readonly string[];
  /** Told of each code: the first at once, another when that has run out or was guessed at five times. */
  readonly onCode: (code: string, validForMs: number) => void;
  /** Default: nothing is written. */
  readonly logger?: Logger | undefined;
  /** For tests. Default: the machine's clock. */
  readonly clock?: Clock | undefined;
  /** For tests. Pause after a wrong code, in milliseconds. Default 1000. */
  readonly wrongPauseMs?: number | undefined;
}

/** What a node was given by its adopter. */
export interface Adoption {
  readonly meshId: string;
  /** Peer id of the root or admin key that adopted it. */
  readonly adopter: string;
  /** What the adopter passed on, from JSON. */
  readonly configuration: unknown;
}

/** A node that waits to be adopted and does nothing else. */
export interface Enrolment extends AsyncDisposable {
  readonly peerId: string;
  /** Full addresses for `MeshAuthority.adopt`. */
  addresses(): readonly string[];
  /**
   * Resolves when the node has been adopted and no longer listens: `createMesh` with `admission: "certificate"` and the same
   * `dataDir` may follow. Never rejects; stays pending if `stop` comes first.
   */
  readonly adopted: Promise<Adoption>;
  /** Ends the waiting and frees the addresses. May be called twice. */
  stop(): Promise<void>;
}

/**
 * Starts a fresh node that can only be adopted. One that was adopted before answers its adopter for ten seconds more.
 * @throws MeshError `INVALID_OPTIONS`, `IDENTITY_DAMAGED`, `LISTEN_FAILED`, `STORE_FAILED`; `STORE_LOCKED` if a node or another
 * enrolment uses `dataDir`; `ALREADY_ADOPTED` if it has a certificate from elsewhere, and `CERTIFICATE_INVALID` if its file `adoption` is damaged.
 */
export async function startEnrolment(init: EnrolmentInit): Promise<Enrolment> {
  const options = parseWith(enrolmentSchema, init);
  const { privateKey, peerId } = await loadIdentity(options.dataDir);
  const unlock = await lockDataDir(options.dataDir);
  try {
    return await listen(options, { privateKey, peerId, unlock });
  } catch (error) {
    await unlock();
    throw error;
  }
}

interface Enrolling extends Pick<Identity, "privateKey" | "peerId"> {
  /** Lets go of the data directory. */
  readonly unlock: () => Promise<void>;
}

async function listen(init: EnrolmentInit, { privateKey, peerId, unlock }: Enrolling): Promise<Enrolment> {
  const adoption = await readRecord(init.dataDir);
  if (adoption === undefined && (await readIfPresent(join(init.dataDir, CERTIFICATE_FILE))) !== undefined)
    throw new MeshError(
      "ALREADY_ADOPTED",
      `${init.dataDir} holds a certificate: this node is a member already`,
    );
  const server = new EnrolmentServer(init, { peerId, unlock }, adoption);
  const node = await createLibp2p({
    privateKey,
    start: false,
    addresses: { listen: [...init.listen] },
    transports: conduits(),
    connectionEncrypters: [enrolEncrypter((exchange) => server.talk(exchange))],
    connectionMonitor: { enabled: false },
    connectionManager: {
      maxIncomingPendingConnections: PENDING_MAX,
      inboundConnectionThreshold: DIALS_PER_SECOND_MAX,
      inboundUpgradeTimeout: DIALOG_MS,
      reconnectRetries: 0,
    },
  });
  try {
    for (const address of init.listen) await removeStaleSocket(address);
    await node.start();
  } catch (cause) {
    await Promise.allSettled([node.stop()]);
    throw new MeshError("LISTEN_FAILED", `cannot listen on ${init.listen.join(", ")}`, { cause });
  }
  server.start(node);
  return server;
}

const enrolmentSchema = z.strictObject({
  dataDir: directorySchema,
  listen: z.array(addressSchema).min(1).max(LISTEN_MAX),
  onCode: functionSchema<EnrolmentInit["onCode"]>(),
  logger: loggerSchema.optional(),
  clock: clockSchema.optional(),
  wrongPauseMs: z.number().min(0).optional(),
});

class EnrolmentServer implements Enrolment {
  readonly peerId: string;
  readonly #init: EnrolmentInit;
  readonly #unlock: () => Promise<void>;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #window = new EnrolWindow(newCode);
  readonly #adopted = Promise.withResolvers<Adoption>();
  #node: Libp2p | undefined;
  #adoption: AdoptionRecord | undefined;
  /** When the adoption is on disk. */
  #closed: Promise<void> = Promise.resolve();
  /** Proofs are judged one after the other. */
  #turn: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #timer: NodeJS.Timeout | undefined;
  #stopping: Promise<void> | undefined;

  constructor(
    init: EnrolmentInit,
    { peerId, unlock }: Pick<Enrolling, "peerId" | "unlock">,
    adoption: AdoptionRecord | undefined,
  ) {
    this.#init = init;
    this.#unlock = unlock;
    this.peerId = peerId;
    this.#adoption = adoption;
    this.#clock = init.clock ?? systemClock;
    this.#logger = init.logger ?? silentLogger;
  }

  get adopted(): Promise<Adoption> {
    return this.#adopted.promise;
  }

  addresses(): readonly string[] {
    return this.#node?.getMultiaddrs().map(String) ?? [];
  }

  start(node: Libp2p): void {
    this.#node = node;
    if (this.#adoption === undefined) this.#code();
    else this.#linger();
  }

  stop(): Promise<void> {
    clearTimeout(this.#timer);
    return (this.#stopping ??= this.#end());
  }

  async #end(): Promise<void> {
    try {
      await this.#node?.stop();
      await this.#closed.catch(() => undefined); // Whoever starts the node next finds what it was given.
    } finally {
      await this.#unlock();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  /** One adopter, or whoever says it is one. */
  async talk(exchange: EnrolExchange): Promise<void> {
    const begin = await exchange.hear();
    if (begin.type !== "begin") return;
    if (this.#adoption !== undefined) {
      await this.#again(exchange, this.#adoption);
      return;
    }
    if (this.#waiting >= DIALOGS_MAX) return await refuse(exchange, "BUSY");
    const nonces = [begin.nonce, newNonce()] as const;
    await exchange.say({ type: "challenge", nonce: nonces[1] });
    const proof = await exchange.hear();
    if (proof.type !== "proof") return;
    const proven = { adopter: exchange.peer, node: this.peerId, mesh: begin.mesh, nonces } as const;
    const code = await this.#judge(() => this.#proves(proof.mac, { by: "adopter", ...proven }));
    if (code === undefined) return await refuse(exchange, this.#adoption ? "ALREADY_ADOPTED" : "WRONG_CODE");
    await exchange.say({ type: "proof", mac: proofOf(code, { by: "node", ...proven }) });
    await this.#take(exchange, begin.mesh);
  }

  /** The code that was proven; `undefined` for a wrong proof, which costs a try and everybody a pause. */
  #proves(mac: string, proof: Parameters<typeof proofOf>[1]): string | undefined {
    if (this.#adoption !== undefined) return undefined;
    const code = this.#code();
    if (isSameProof(mac, proofOf(code, proof))) return code;
    this.#logger.warn("a wrong code", { peerId: proof.adopter });
    this.#window.failed(code);
    this.#code(); // Shown at once if that was one too many.
    return undefined;
  }

  async #judge(prove: () => string | undefined): Promise<string | undefined> {
    this.#waiting += 1;
    const before = this.#turn;
    const turn = before
      .catch(() => undefined)
      .then(async () => {
        const code = prove();
        if (code === undefined) await pause(this.#init.wrongPauseMs ?? WRONG_PAUSE_MS);
        return code;
      });
    this.#turn = turn;
    return await turn.finally(() => (this.#waiting -= 1));
  }

  async #take(exchange: EnrolExchange, mesh: string): Promise<void> {
    const grant = await exchange.hear();
    if (grant.type !== "grant") return;
    const { credentials, configuration } = grant;
    if (!this.#isGood(credentials, mesh)) return await refuse(exchange, "BAD_CERTIFICATE");
    // Two that knew the code: the first to get here is the adopter.
    if (this.#adoption !== undefined) return await refuse(exchange, "ALREADY_ADOPTED");
    const adoption = { adopter: exchange.peer, credentials, configuration };
    this.#adoption = adoption;
    await this.#close(adoption);
    await this.#acknowledge(exchange, credentials);
  }

  /** One file: certificate and "closed" are on disk together, or neither is. Nobody is told before. */
  async #close(adoption: AdoptionRecord): Promise<void> {
    this.#closed = writeDurably(this.#init.dataDir, ADOPTION_FILE, encodeAdoption(adoption));
    try {
      await this.#closed;
    } catch (error) {
      this.#adoption = undefined;
      throw error;
    }
    this.#logger.info("adopted", { adopter: adoption.adopter });
    this.#linger();
  }

  /** An adopter whose ack was lost gets the same one; anybody else comes too late. */
  async #again(exchange: EnrolExchange, adoption: AdoptionRecord): Promise<void> {
    if (exchange.peer !== adoption.adopter) return await refuse(exchange, "ALREADY_ADOPTED");
    await exchange.say({ type: "adopted", hash: hashOf(adoption.credentials) });
    const grant = await exchange.hear();
    const isSame = grant.type === "grant" && grant.credentials === adoption.credentials;
    if (!isSame) return await refuse(exchange, "ALREADY_ADOPTED");
    await this.#closed;
    await this.#acknowledge(exchange, adoption.credentials);
  }

  async #acknowledge(exchange: EnrolExchange, credentials: string): Promise<void> {
    await exchange.say({ type: "ack", hash: hashOf(credentials) });
    if ((await exchange.hear()).type === "done") this.#finish();
  }

  #isGood(text: string, mesh: string): boolean {
    const found = openCredentials(Buffer.from(text, "base64url"), mesh);
    if (found === undefined || found === "foreign") return false;
    const trust = new Trust(mesh, found.genesis);
    return "admitted" in trust.judge(found, this.peerId, this.#clock.now().wallMs);
  }

  #code(): string {
    const { monoMs } = this.#clock.now();
    const { code, untilMs, isNew } = this.#window.current(monoMs);
    if (isNew) {
      this.#after(untilMs - monoMs, () => this.#code());
      callListener(
        () => this.#init.onCode(code, untilMs - monoMs),
        (error) => this.#logger.error("onCode threw", { err: error }),
      );
    }
    return code;
  }

  #linger(): void {
    this.#after(LINGER_MS, () => this.#finish());
  }

  /** Dialogs may go on for a moment after the end. */
  #after(delayMs: number, task: () => void): void {
    clearTimeout(this.#timer);
    if (this.#stopping === undefined) this.#timer = setTimeout(task, delayMs);
  }

  #finish(): void {
    const adoption = this.#adoption;
    if (adoption === undefined || this.#stopping !== undefined) return;
    this.stop()
      .catch((error: unknown) => this.#logger.error("the enrolment did not end in order", { err: error }))
      .finally(() => this.#adopted.resolve(adoptionOf(adoption)));
  }
}

/**
 * What the node in `dataDir` was given when it was adopted; `undefined` if it never was.
 * @throws MeshError `INVALID_OPTIONS`, `CERTIFICATE_INVALID`, `STORE_FAILED`.
 */
export async function readAdoption(dataDir: string): Promise<Adoption | undefined> {
  parseWith(directorySchema, dataDir, "dataDir");
  const record = await readRecord(dataDir);
  return record === undefined ? undefined : adoptionOf(record);
}

async function readRecord(dataDir: string): Promise<AdoptionRecord | undefined> {
  const file = join(dataDir, ADOPTION_FILE);
  const bytes = await readIfPresent(file);
  const adoption = bytes === undefined ? undefined : decodeAdoption(bytes);
  if (bytes !== undefined && adoption === undefined)
    throw new MeshError("CERTIFICATE_INVALID", `${file} is damaged; remove it to enrol this node anew`);
  return adoption;
}

function adoptionOf({ adopter, credentials, configuration }: AdoptionRecord): Adoption {
  const found = openCredentials(Buffer.from(credentials, "base64url"));
  const meshId = found === undefined || found === "foreign" ? "" : found.mesh;
  return { meshId, adopter, configuration: JSON.parse(configuration) as unknown };
}

async function refuse(exchange: EnrolExchange, code: EnrolRefusal): Promise<void> {
  const refusal: EnrolMessage = { type: "refused", code };
  await exchange.say(refusal);
}

function hashOf(credentials: string): string {
  return createHash("sha256").update(credentials).digest("hex");
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => void setTimeout(resolve, ms));
}
