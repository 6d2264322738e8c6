/** How long handlers may be begun before all else of the process has its turn, in milliseconds. */
const TURN_MS = 10;

/**
 * Handlers that compute, one after the other, would keep the event loop for as long as there are messages: links would
 * break, leases run out, and what the handlers did would happen twice. All consumers of a node share one of these.
 */
export class Turn {
  #beganMs: number | undefined;
  readonly #waiting = new Set<() => void>();

  /** Whether a handler may begin now; if not, `then` is called when it may. */
  mayBegin(then: () => void): boolean {
    const nowMs = performance.now();
    if (this.#beganMs === undefined) {
      this.#beganMs = nowMs;
      // The first is due in this round of the event loop already, the second after the timers and input of the next one.
      setImmediate(() => setImmediate(() => this.#next()));
    }
    if (nowMs - this.#beganMs < TURN_MS) return true;
    this.#waiting.add(then);
    return false;
  }

  #next(): void {
    this.#beganMs = undefined;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const then of waiting) then();
  }
}
