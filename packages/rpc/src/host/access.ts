import type { Logger } from "@klatsch/kit";
import type { MemberCertificate, Mesh } from "@klatsch/mesh";

import type { Access, Caller, Certified } from "../contract.ts";

/** Callers remembered: there are as many as members. */
const CALLERS_MAX = 4_096;

/** Who calls, as far as it is proven. Looked up when a rule asks: most only want the peer id. */
class ProvenCaller implements Caller {
  readonly peerId: string;
  readonly self: boolean;
  readonly #admission: Mesh["admission"];

  constructor(peerId: string, mesh: Mesh) {
    this.peerId = peerId;
    this.self = peerId === mesh.peerId;
    this.#admission = mesh.admission;
  }

  get certificate(): MemberCertificate | undefined {
    return this.#admission.certificate(this.peerId);
  }

  can(capability: string): boolean {
    return this.#admission.can(this.peerId, capability);
  }
}

/** Callers by peer id, and what access rules say of them. */
export class Guard {
  readonly #mesh: Mesh;
  readonly #logger: Logger;
  readonly #callers = new Map<string, Caller>();

  constructor(mesh: Mesh, logger: Logger) {
    this.#mesh = mesh;
    this.#logger = logger;
  }

  caller(peerId: string): Caller {
    let caller = this.#callers.get(peerId);
    if (caller === undefined) {
      if (this.#callers.size >= CALLERS_MAX) this.#callers.clear();
      caller = new ProvenCaller(peerId, this.#mesh);
      this.#callers.set(peerId, caller);
    }
    return caller;
  }

  /** Anything but a clear yes is a no. `what` is for the log. */
  admits(access: Access, caller: Caller, what: string): boolean {
    if (access === "members") return true;
    if (access === "self") return caller.self;
    if (Array.isArray(access)) return access.includes(caller.peerId);
    if (typeof access !== "function") return isCertified(access as Certified, caller);
    try {
      const verdict: unknown = access(caller);
      return verdict === true; // A promise is no yes.
    } catch (error) {
      this.#logger.error("an access rule threw", { err: error, what });
      return false;
    }
  }
}

/** All that the rule names has to hold. What is signed of nobody holds for nobody: so it is in an open mesh. */
function isCertified({ capability, cloud, tags }: Certified, caller: Caller): boolean {
  if (capability !== undefined && !caller.can(capability)) return false;
  if (cloud === undefined && tags === undefined) return capability !== undefined;
  const { certificate } = caller;
  if (certificate === undefined || (cloud !== undefined && certificate.cloud !== cloud)) return false;
  return Object.entries(tags ?? {}).every(
    ([key, value]) => Object.hasOwn(certificate.tags, key) && certificate.tags[key] === value,
  );
}
