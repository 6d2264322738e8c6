/** Commands that call methods of members. */
import { NodeError } from "../errors.ts";
import { printable, table } from "../format.ts";
import { REDUCERS } from "../protocol.ts";
import { connectTo, printJson } from "./node.ts";
import type { NodeFlags } from "./node.ts";
import { parseValue } from "./state.ts";

type CallFlags = NodeFlags & { readonly deadlineMs?: number };

const inputOf = (text: string | undefined): unknown => (text === undefined ? undefined : parseValue(text));

export async function call(
  member: string,
  method: string,
  text: string | undefined,
  { deadlineMs, ...flags }: CallFlags,
): Promise<void> {
  await using client = await connectTo(flags);
  const { value } = await client.call("rpc.call", { member, method, input: inputOf(text), deadlineMs });
  if (value !== undefined) printJson(value);
}

/** Prints who was told; who could not be goes to standard error. */
export async function cast(
  target: string,
  method: string,
  text: string | undefined,
  flags: NodeFlags,
): Promise<void> {
  await using client = await connectTo(flags);
  const { addressed, unreachable } = await client.call("rpc.cast", { target, method, input: inputOf(text) });
  for (const peer of addressed) console.log(peer);
  for (const peer of unreachable) console.error(`${peer} cannot be reached`);
}

/** Prints the result; who failed or is missing goes to standard error. */
export async function gather(
  target: string,
  method: string,
  text: string | undefined,
  flags: CallFlags & { readonly reduce?: string; readonly of?: string; readonly json?: true },
): Promise<void> {
  const { of, deadlineMs } = flags;
  const reduce = REDUCERS.find((each) => each === flags.reduce);
  if (reduce === undefined && flags.reduce !== undefined)
    throw new NodeError("USAGE", `--reduce: must be one of ${REDUCERS.join(", ")}`);
  await using client = await connectTo(flags);
  const args = { target, method, input: inputOf(text), reduce, of, deadlineMs };
  const result = await client.call("rpc.gather", args);
  const { answered, failed, missing } = result;
  if (answered.length === 0 && failed.length + missing.length > 0) process.exitCode = 1;
  if (flags.json === true) return printJson(result);
  if (result.value !== undefined) printJson(result.value); // There is none where nobody gave one.
  console.error(`${answered.length} answered, ${failed.length} failed, ${missing.length} missing`);
  const rows = [
    ...failed.map(({ name, peerId, code }) => [name, peerId, code]),
    ...missing.map(({ name, peerId }) => [name, peerId, "missing"]),
  ];
  if (rows.length > 0) console.error(table(["NAME", "PEER", "WHY"], rows));
}

export async function methods(member: string | undefined, flags: NodeFlags): Promise<void> {
  await using client = await connectTo(flags);
  for (const name of await client.call("rpc.methods", { member })) console.log(printable(name));
}
