import { STANDING_MAX } from "../core/messages.ts";

/** At most one boot in this time, in milliseconds: each is a durable write, and a restart for all who hear of it. */
const RAISE_MS = 1_000;
/** Without proof it is raised up to what a wall clock gives in this century, and further in steps: who says so may be wrong, and numbers end. */
const UNPROVEN_MAX: number = 2 ** 42;
const STEP_MAX = 65_536;

interface BootRaiserInit {
  boot(): number;
  /** A peer says that a newer process has our identity: then a higher boot is that one's, and not to be raised above. */
  isSuperseded(): boolean;
  onSuperseded(): void;
  /** Resolves once it is durable. */
  save(boot: number): Promise<void>;
  onRaised(boot: number): void;
  onFailed(error: Error): void;
}

/** Raises this node's boot above what others say they know of it: its disk has forgotten processes, or somebody lies. */
export class BootRaiser {
  readonly #init: BootRaiserInit;
  #hasEnded = false;
  #above = -1;
  #isRaising = false;
  #saving: Promise<void> | undefined;

  constructor(init: BootRaiserInit) {
    this.#init = init;
  }

  /** A peer that has no proof says that it knows of `above`. */
  hear(above: number): void {
    this.know(Math.min(above, Math.max(UNPROVEN_MAX, this.#init.boot() + STEP_MAX)));
  }

  /** Others know of `above`. */
  know(above: number): void {
    if (this.#init.isSuperseded()) this.#init.onSuperseded();
    else this.raise(above);
  }

  raise(above: number): void {
    this.#above = Math.max(this.#above, Math.min(above, STANDING_MAX - 1));
    if (this.#isRaising) return;
    this.#isRaising = true;
    void this.#raise();
  }

  /** Resolves once nothing is being written. */
  async end(): Promise<void> {
    this.#hasEnded = true;
    await this.#saving;
  }

  async #raise(): Promise<void> {
    while (this.#above >= this.#init.boot() && !this.#hasEnded) {
      const boot = this.#above + 1;
      this.#saving = this.#init.save(boot).then(
        () => this.#init.onRaised(boot),
        (error: unknown) => {
          this.#hasEnded = true;
          this.#init.onFailed(error instanceof Error ? error : new Error(String(error)));
        },
      );
      await this.#saving;
      await new Promise<void>((resolve) => void setTimeout(resolve, RAISE_MS).unref());
    }
    this.#isRaising = false;
  }
}
