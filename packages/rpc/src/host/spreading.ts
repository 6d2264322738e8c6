import { textOf } from "@klatsch/kit";
import type { Logger } from "@klatsch/kit";
import type { Member, Mesh } from "@klatsch/mesh";

import { decodeSpread, encodeSpread } from "../codec/frames.ts";
import { CodecError } from "../codec/read.ts";
import { SPREADERS_MAX, SPREAD_SEEN_MAX } from "../core/limits.ts";
import type { CastMessage, EmitMessage } from "../core/messages.ts";
import { Seen } from "../core/seen.ts";
import { rpcError } from "../errors.ts";
import type { Engine } from "./engine.ts";
import { routeOf } from "./route.ts";

/** The mesh's topic for all that is told to many. */
const TOPIC = "klatsch/rpc/1";
/** Own entry of gossip state of whoever listens there: the others then have to, or they would miss it. */
const LISTENS_KEY = "klatsch.rpc/spread";
/** A member without a link for this long after the last one joined is no neighbour, and not just late; milliseconds. */
const SETTLED_MS = 10_000;

export interface SpreadingInit {
  readonly mesh: Mesh;
  readonly engine: () => Engine;
  readonly logger: Logger;
  readonly onMessage: (peer: string, message: CastMessage | EmitMessage) => void;
  readonly onBad: (peer: string, reason: string) => void;
}

/**
 * What is for members that are no neighbours: told over gossip, once for all of them, however many there are.
 * Neighbours get the same over their links, which lose and reorder nothing, so who gets both counts one.
 * Nothing of it runs before there is somebody to be told who has no link.
 */
export class Spreading {
  readonly #init: SpreadingInit;
  readonly #seen: Seen = new Seen({ numbersMax: SPREAD_SEEN_MAX, sendersMax: SPREADERS_MAX });
  #unsubscribe: (() => void)[] = [];
  #settling: NodeJS.Timeout | undefined;
  #state: "idle" | "listening" | "refused" = "idle";
  #lastNo = 0;

  constructor(init: SpreadingInit) {
    this.#init = init;
  }

  start(): void {
    const { mesh } = this.#init;
    this.#unsubscribe = [
      mesh.on("member:joined", () => this.#settle()),
      mesh.state.watch({ key: LISTENS_KEY }, () => this.#listen()),
    ];
    if (mesh.state.entries({ key: LISTENS_KEY }).length > 0) this.#listen();
    this.#settle();
  }

  stop(): void {
    clearTimeout(this.#settling);
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
  }

  /** The next number of a value; grows over all that this process casts or emits. */
  nextNo(): number {
    this.#lastNo += 1;
    return this.#lastNo;
  }

  /** Those of all members that are there and no neighbours. */
  far(members: readonly Member[] = this.#init.mesh.members()): readonly string[] {
    return members.filter((member) => this.#isFar(member)).map(({ peerId }) => peerId);
  }

  /**
   * Tells them; `false`: too many or too large, or not to be had inside the application's libp2p node.
   * @throws RpcError `INVALID_INPUT` for what cannot be encoded.
   */
  async tell(message: CastMessage | EmitMessage): Promise<boolean> {
    const { mesh, logger } = this.#init;
    const bytes = encoded(mesh.boot, message);
    this.#listen();
    if (this.#state === "refused") return false;
    try {
      await mesh.topics.publish(TOPIC, bytes);
      return true;
    } catch (error) {
      logger.warn("members that are no neighbours were not told", { err: error });
      return false;
    }
  }

  /** Whether this copy of what a process says to many is the first to come. */
  isFirst(peer: string, boot: number, no: number): boolean {
    return this.#seen.isNew(`${peer} ${boot}`, no);
  }

  #isFar({ peerId, status, linked, self }: Member): boolean {
    if (self || linked || (status !== "alive" && status !== "suspect")) return false;
    return !this.#init.engine().isUp(routeOf(peerId, "normal"));
  }

  #settle(): void {
    if (this.#state !== "idle") return;
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => {
      if (this.far().length > 0) this.#listen();
    }, SETTLED_MS).unref();
  }

  #listen(): void {
    if (this.#state !== "idle") return;
    const { mesh, logger } = this.#init;
    try {
      this.#unsubscribe.push(mesh.topics.subscribe(TOPIC, ({ from, body }) => this.#received(from, body)));
      this.#state = "listening";
      mesh.state.set(LISTENS_KEY, 1);
    } catch (error) {
      if (this.#state === "idle") this.#state = "refused";
      logger.warn("only neighbours can be told what is for many", { err: error });
    }
  }

  #received(peer: string, body: Uint8Array): void {
    if (peer === this.#init.mesh.peerId) return; // It told itself as it told its neighbours.
    try {
      const { boot, message } = decodeSpread(body);
      if (message.no !== undefined && this.isFirst(peer, boot, message.no))
        this.#init.onMessage(peer, message);
    } catch (error) {
      if (!(error instanceof CodecError)) throw error;
      this.#init.onBad(peer, error.message);
    }
  }
}

function encoded(boot: number, message: CastMessage | EmitMessage): Uint8Array {
  try {
    return encodeSpread({ boot, message });
  } catch (error) {
    throw rpcError("INVALID_INPUT", `the value cannot be encoded: ${textOf(error)}`, error);
  }
}
