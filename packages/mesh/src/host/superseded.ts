import { MeshError } from "../errors.ts";

/** What ends the older of two processes. */
export function identityConflict(dataDir: string): MeshError {
  const text = `a newer process runs with the identity in ${dataDir}: two processes must not share a dataDir`;
  return new MeshError("IDENTITY_CONFLICT", text);
}

/**
 * Peers that say a newer process has our identity. One may lie: it is believed when another says so too, or while there
 * is no other to hear.
 */
export class Superseded {
  readonly #by = new Set<string>();

  /** `linked`: all peers there is a link with. */
  isBelieved(peer: string, linked: readonly string[]): boolean {
    this.#by.add(peer);
    return this.#by.size > 1 || linked.every((other) => other === peer);
  }

  /** Somebody says so. Whoever else knows of a higher boot of ours then is the second. */
  get isHeard(): boolean {
    return this.#by.size > 0;
  }

  /** It has a link with us after all. */
  withdrawn(peer: string): void {
    this.#by.delete(peer);
  }
}
