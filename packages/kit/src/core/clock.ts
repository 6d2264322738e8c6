/** A moment as one process sees it. `monoMs` never steps back and never travels; `wallMs` is a hint. */
export interface Instant {
  /** Milliseconds of a monotonic clock with an arbitrary zero. */
  readonly monoMs: number;
  /** Milliseconds since the Unix epoch, as far as this machine knows. */
  readonly wallMs: number;
}

/** Port: where a host takes the time from. */
export interface Clock {
  now(): Instant;
}
