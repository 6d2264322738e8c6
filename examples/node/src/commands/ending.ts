/** Exit code of a process that was interrupted. */
const INTERRUPTED = 130;
/** npm passes on a Ctrl-C that the terminal has sent to this process as well; a person needs longer, in milliseconds. */
const ECHO_MS = 1_000;

/** Aborts when this process is told to end, which it then does in order, even while it starts. Told again, it ends at once. */
export function whenToldToEnd(): AbortSignal {
  const told = new AbortController();
  let askedAt: number | undefined;
  const onSignal = (): void => {
    if (askedAt !== undefined && performance.now() - askedAt > ECHO_MS) process.exit(INTERRUPTED);
    askedAt ??= performance.now();
    told.abort();
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, onSignal);
  return told.signal;
}
