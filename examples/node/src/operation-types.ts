/** The shape of what a node does for those who ask at its socket. */
import type { Message } from "@klatsch/queue";
import type { Fields } from "./fields.ts";
import type { Contract, Operation } from "./protocol.ts";

/** What a connection lends to its operations. */
interface Caller {
  /** Aborts when nobody waits for the answer any more. */
  readonly signal: AbortSignal;
  /** Messages taken and not settled, by hold. */
  readonly holds: Map<number, Message>;
}

export type Operations = {
  readonly [Op in Operation]: (
    args: Fields,
    caller: Caller,
    emit: (event: unknown) => void,
  ) => Promise<Contract[Op]["result"]>;
};
