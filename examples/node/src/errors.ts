import { KlatschError } from "@klatsch/kit";

/**
 * What went wrong beside the errors of the mesh and the queues, whose codes are passed on.
 * - `USAGE`: flags or a configuration that cannot be; the message names the field.
 * - `NOT_RUNNING`, `ALREADY_RUNNING`: nobody, or somebody, answers at the socket.
 * - `SILENT`: a process has the socket, and does not answer: it is stopped, or too busy.
 * - `BAD_REQUEST`: bytes that are no request, or a request whose arguments cannot be.
 * - `LIMIT_REACHED`: too many requests at a time, or too long ones.
 * - `TIMED_OUT`: `take` found no message in time.
 * - `UNKNOWN_KEY`: gossip state has no value under this key, as far as the node knows.
 * - `CANCELLED`: the connection, or the node, ended before the answer was there.
 * - `INTERNAL`: a fault of this program.
 */
export type NodeErrorCode =
  | "USAGE"
  | "NOT_RUNNING"
  | "ALREADY_RUNNING"
  | "SILENT"
  | "BAD_REQUEST"
  | "LIMIT_REACHED"
  | "TIMED_OUT"
  | "UNKNOWN_KEY"
  | "CANCELLED"
  | "INTERNAL";

export class NodeError extends KlatschError {
  override readonly name: string = "NodeError";
  declare readonly code: NodeErrorCode;

  constructor(code: NodeErrorCode, message: string) {
    super(message, { code, outcome: code === "CANCELLED" || code === "SILENT" ? "unknown" : "none" });
  }
}

/** An error as the node at the other end of the socket told it. */
export class RemoteError extends KlatschError {
  override readonly name: string = "RemoteError";

  constructor(code: string, message: string) {
    super(message, { code, outcome: "unknown" });
  }
}
