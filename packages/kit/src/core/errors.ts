/** What may have happened when a call failed: `none` is safe to retry, `unknown` may still take effect later. */
export type Outcome = "none" | "unknown";

/** Everything a {@link KlatschError} carries beside its message. */
export interface KlatschErrorInit {
  readonly code: string;
  /** Default `none`. */
  readonly outcome?: Outcome | undefined;
  /** Whether the same call may succeed later. Default `false`. */
  readonly retryable?: boolean | undefined;
  readonly cause?: unknown;
}

/** Base of every public failure. Branch on `code`; `message` is for people. */
export class KlatschError extends Error {
  override readonly name: string = "KlatschError";
  readonly code: string;
  readonly outcome: Outcome;
  readonly retryable: boolean;

  constructor(message: string, init: KlatschErrorInit) {
    super(message, init.cause === undefined ? undefined : { cause: init.cause });
    this.code = init.code;
    this.outcome = init.outcome ?? "none";
    this.retryable = init.retryable ?? false;
  }
}

/** Thrown where a local invariant is broken: a bug of ours, never a peer's bytes. */
export class InvariantError extends KlatschError {
  override readonly name: string = "InvariantError";

  constructor(message: string) {
    super(message, { code: "INVARIANT_BROKEN", outcome: "unknown" });
  }
}

/** Stops at a broken invariant: going on would spread the damage. Throws {@link InvariantError}. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}

/** How much of a caller's own text a message repeats, in characters. */
const EXCERPT_CHARS = 100;

/** What a message quotes of a text: its beginning says which it is, and all of it may be megabytes. */
export function excerpt(text: string): string {
  return text.length > EXCERPT_CHARS ? `${text.slice(0, EXCERPT_CHARS)}…` : text;
}

/** The text of whatever was thrown; never empty, and never throws. */
export function textOf(error: unknown): string {
  try {
    const message: unknown = error instanceof Error ? error.message : undefined;
    const text = typeof message === "string" && message !== "" ? message : String(error);
    if (text !== "") return text;
  } catch {
    // Something without a prototype, or whose own code throws.
  }
  return "something without a text was thrown";
}
