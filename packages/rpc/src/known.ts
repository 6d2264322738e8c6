import { excerpt, textOf } from "@klatsch/kit";

import { RpcError, rpcError } from "./errors.ts";

/**
 * What `read` returns, a check of `field` too. An application's own getters and proxies may throw anything there: that is
 * `INVALID_OPTIONS`, as well.
 */
export function readable<T>(field: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof RpcError) throw error;
    throw rpcError("INVALID_OPTIONS", `${field}: cannot be read: ${textOf(error)}`, error);
  }
}

/** A misspelt option must not be taken for none. `prefix`: of their names in messages. @throws RpcError `INVALID_OPTIONS`. */
export function checkKnown<Options extends object>(
  options: Options | undefined,
  known: readonly (keyof Options & string)[],
  prefix = "",
): void {
  for (const name in options) {
    if (!known.includes(name))
      throw rpcError(
        "INVALID_OPTIONS",
        `${prefix}${excerpt(name)}: is none of the options ${known.join(", ")}`,
      );
  }
}
