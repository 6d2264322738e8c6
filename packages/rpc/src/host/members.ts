import { textOf } from "@klatsch/kit";
import type { Member, Mesh } from "@klatsch/mesh";

import { matches, parseTarget, TargetError } from "../core/target.ts";
import type { Facts, Target } from "../core/target.ts";
import { rpcError } from "../errors.ts";
import type { Stops } from "./stops.ts";

/** Parsed targets of peers that are remembered: casts repeat the same few. */
const REMEMBERED_MAX = 256;

/** Who is meant by a target, as far as this node knows. */
export class Members {
  readonly #mesh: Mesh;
  readonly #stops: Stops;
  readonly #parsed = new Map<string, Target>();

  constructor(mesh: Mesh, stops: Stops) {
    this.#mesh = mesh;
    this.#stops = stops;
  }

  /** Whether the member says that it takes no more calls. */
  isStopping(peer: string): boolean {
    return this.#stops.has(peer);
  }

  /**
   * Peer ids of the members meant that are not known to be gone, this node included. `members`: all, where the caller
   * has them. @throws RpcError `INVALID_TARGET`.
   */
  select(target: string | readonly string[], members?: readonly Member[]): readonly string[] {
    const list = listOf(target);
    if (list !== undefined) return [...new Set(list.map((name) => this.#peerOf(name)))];
    if (typeof target !== "string")
      throw rpcError("INVALID_TARGET", "target: must be an expression, or a list of peer ids or names");
    const parsed = this.#parse(target);
    const there = (members ?? this.#mesh.members()).filter(
      ({ status }) => status === "alive" || status === "suspect",
    );
    return there.filter((member) => matches(parsed, member)).map(({ peerId }) => peerId);
  }

  /** Whether this node is meant, by an expression or a list; a target that does not parse means nobody. */
  isMeant(target: string | readonly string[]): boolean {
    if (typeof target !== "string") return target.includes(this.#mesh.peerId);
    const self: Facts | undefined = this.#mesh.member(this.#mesh.peerId);
    try {
      return self !== undefined && matches(this.#parse(target), self);
    } catch {
      return false;
    }
  }

  /** The members meant that are there and take calls; those for whom `isNear` says yes first. @throws RpcError `INVALID_TARGET`. */
  candidates(target: string | readonly string[], isNear: (peer: string) => boolean): readonly string[] {
    const there = this.select(target).filter((peer) => {
      const status = this.#mesh.member(peer)?.status;
      return (status === "alive" || status === "suspect") && !this.isStopping(peer);
    });
    return [...there.filter(isNear), ...there.filter((peer) => !isNear(peer))];
  }

  nameOf(peerId: string): string {
    return this.#mesh.member(peerId)?.name ?? "";
  }

  #peerOf(name: string): string {
    if (this.#mesh.member(name) !== undefined) return name;
    try {
      return this.#mesh.resolve(name);
    } catch (error) {
      throw rpcError("INVALID_TARGET", error instanceof Error ? error.message : String(error), error);
    }
  }

  #parse(text: string): Target {
    const known = this.#parsed.get(text);
    if (known !== undefined) return known;
    try {
      const parsed = parseTarget(text);
      if (this.#parsed.size >= REMEMBERED_MAX) this.#parsed.clear();
      this.#parsed.set(text, parsed);
      return parsed;
    } catch (error) {
      if (error instanceof TargetError) throw rpcError("INVALID_TARGET", error.message, error);
      throw error;
    }
  }
}

/** A target that is a list. @throws RpcError `INVALID_TARGET`. */
function listOf(target: string | readonly string[]): readonly string[] | undefined {
  try {
    return Array.isArray(target) ? Array.from(target as readonly string[]) : undefined;
  } catch (error) {
    throw rpcError("INVALID_TARGET", `target: cannot be read: ${textOf(error)}`, error);
  }
}
