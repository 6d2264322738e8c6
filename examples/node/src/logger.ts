import type { LogFields, Logger } from "@klatsch/kit";

/** What is worth a person's look goes to standard error. */
export function stderrLogger(): Logger {
  const write = (level: string, message: string, fields?: LogFields): void => {
    const more = fields === undefined ? "" : ` ${JSON.stringify(fields, errorsAsText)}`;
    console.error(`${level}: ${message}${more}`);
  };
  return {
    debug: () => undefined,
    info: () => undefined,
    warn: (message, fields) => write("warning", message, fields),
    error: (message, fields) => write("error", message, fields),
  };
}

function errorsAsText(_key: string, value: unknown): unknown {
  return value instanceof Error ? value.message : value;
}
