import { systemClock } from "@klatsch/kit";

/** How long something is waited for. The end can be moved forward, not back. */
export class Grace {
  readonly #over = Promise.withResolvers<void>();
  #endsAt = Infinity;
  #timer: NodeJS.Timeout | undefined;

  /** It ends so many milliseconds from now at the latest. */
  endWithin(timeoutMs: number): void {
    const endsAt = systemClock.now().monoMs + timeoutMs;
    if (endsAt >= this.#endsAt) return;
    this.#endsAt = endsAt;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#over.resolve, timeoutMs);
  }

  /** Resolves once that has, or the time is over. */
  async wait(awaited: Promise<unknown>): Promise<void> {
    await Promise.race([awaited, this.#over.promise]);
    this.#endsAt = -Infinity;
    clearTimeout(this.#timer);
  }
}
