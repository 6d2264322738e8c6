/** What a log line says beside its message: flat, serialisable, and free of secrets. */
export type LogFields = Readonly<Record<string, unknown>>;

/**
 * Port: where hosts and services write what people may want to read; `console` and winston fit as they are. pino has its
 * arguments the other way round and drops the fields: give `{ info: (message, fields) => log.info(fields ?? {}, message), … }`.
 * An error is the field `err`. Cores never log. Implementations must not throw.
 */
export interface Logger {
  /** Useful only to whoever debugs this library. */
  debug(message: string, fields?: LogFields): void;
  /** A change of state worth knowing: started, joined, opened. */
  info(message: string, fields?: LogFields): void;
  /** Handled, but someone should look if it repeats. */
  warn(message: string, fields?: LogFields): void;
  /** Something has stopped and needs a person. */
  error(message: string, fields?: LogFields): void;
}

function discard(): void {
  // On purpose.
}

/** The default of every package: writes nothing. */
export const silentLogger: Logger = { debug: discard, info: discard, warn: discard, error: discard };
