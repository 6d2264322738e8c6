/** Commands that ask or tell a running node about itself. */
import { Client } from "../client.ts";
import { socketPath, tagsOf } from "../config.ts";
import { changeLine, membersTable, printable, table, tracesTable, valueRows } from "../format.ts";
import type { Farewell } from "../protocol.ts";

/** Which node is meant. */
export interface NodeFlags {
  readonly data?: string;
  readonly socket?: string;
}

export async function connectTo(flags: NodeFlags): Promise<Client> {
  return await Client.connect(socketPath(flags));
}

/** Resolves once nobody reads what is printed any more: `head` has seen enough. Found out by printing. */
export async function unread(): Promise<void> {
  await new Promise<void>((resolve) => process.stdout.once("error", () => resolve()));
}

export function printJson(value: unknown): void {
  console.log(JSON.stringify(value, undefined, 2));
}

export async function members(
  flags: NodeFlags & { readonly json?: true; readonly watch?: true },
): Promise<void> {
  await using client = await connectTo(flags);
  const isJson = flags.json === true;
  if (flags.watch !== true) {
    const all = await client.call("members", {});
    if (isJson) printJson(all);
    else console.log(membersTable(all));
    return;
  }
  // Asked for first: a change between the two answers is told twice rather than never.
  const changes = client.watchMembers((change) => {
    console.log(isJson ? JSON.stringify(change) : changeLine(change));
  });
  const all = await client.call("members", {});
  console.log(isJson ? JSON.stringify({ members: all }) : membersTable(all));
  await Promise.race([changes, unread()]);
}

export async function trace(name: string, flags: NodeFlags & { readonly json?: true }): Promise<void> {
  await using client = await connectTo(flags);
  const traces = await client.call("trace", { member: name });
  if (flags.json === true) printJson(traces);
  else console.log(traces.length === 0 ? `${name} is this node` : tracesTable(traces));
}

/** Prints the node's tags, changed first as asked. */
export async function tags(
  pairs: readonly string[],
  flags: NodeFlags & { readonly delete?: readonly string[]; readonly json?: true },
): Promise<void> {
  const set = pairs.length === 0 ? undefined : tagsOf(pairs);
  await using client = await connectTo(flags);
  const all = await client.call("tags", { set, delete: flags.delete });
  if (flags.json === true) printJson(all);
  else for (const [key, value] of Object.entries(all)) console.log(printable(`${key}=${value}`));
}

export async function addresses(flags: NodeFlags): Promise<void> {
  await using client = await connectTo(flags);
  for (const address of (await client.call("status", {})).addresses) console.log(address);
}

export async function stats(flags: NodeFlags & { readonly json?: true }): Promise<void> {
  await using client = await connectTo(flags);
  const all = await client.call("stats", {});
  if (flags.json === true) printJson(all);
  else console.log(table(["COUNTER", "VALUE"], valueRows(all)));
}

export async function metrics(flags: NodeFlags): Promise<void> {
  await using client = await connectTo(flags);
  process.stdout.write((await client.call("metrics", {})).text);
}

export async function stop(how: Farewell, flags: NodeFlags): Promise<void> {
  await using client = await connectTo(flags);
  const { name } = await client.call("status", {});
  await client.call("stop", { how });
  console.log(`${name} has ${how === "leave" ? "left for good" : "stopped"}`);
}
