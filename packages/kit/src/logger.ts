import { callListener } from "./listening.ts";

/** What a log line says beside its message: flat, serialisable, and free of secrets. */
export type LogFields = Readonly<Record<string, unknown>>;

/**
 * Port: where hosts and services write what people may want to read; `console` and winston fit as they are. pino has its
 * arguments the other way round and drops the fields: give `{ info: (message, fields) => log.info(fields ?? {}, message), … }`.
 * An error is the field `err`. Cores never log. What an implementation throws is dropped.
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

/** The application's logger as services use it: whatever it throws or rejects with is dropped, since there is nowhere left to tell of it. */
export function guardLogger(logger: Logger): Logger {
  return {
    debug: (message, fields) => callListener(() => logger.debug(message, fields), discard),
    info: (message, fields) => callListener(() => logger.info(message, fields), discard),
    warn: (message, fields) => callListener(() => logger.warn(message, fields), discard),
    error: (message, fields) => callListener(() => logger.error(message, fields), discard),
  };
}
