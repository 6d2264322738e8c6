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

  /** It has a link with us after all. */
  withdrawn(peer: string): void {
    this.#by.delete(peer);
  }
}
