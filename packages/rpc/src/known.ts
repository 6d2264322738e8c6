import { excerpt } from "@klatsch/kit";

import { rpcError } from "./errors.ts";

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
