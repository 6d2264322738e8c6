/** How long what is held may take to be released once handlers were waited for long enough, in milliseconds. */
export const RELEASE_MS = 1_000;

/** Waits for `doing`, for `timeoutMs` at most, and no longer than until `signal` aborts. `false`: it had not ended by then. */
export async function within(
  doing: Promise<unknown>,
  timeoutMs: number | undefined,
  signal?: AbortSignal,
): Promise<boolean> {
  const late = Promise.withResolvers<boolean>();
  const end = (): void => late.resolve(false);
  const timer = timeoutMs === undefined ? undefined : setTimeout(end, timeoutMs);
  signal?.addEventListener("abort", end, { once: true });
  if (signal?.aborted === true) end();
  try {
    return await Promise.race([doing.then(() => true), late.promise]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", end);
  }
}
