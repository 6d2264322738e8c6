/** Commands about gossip state. */
import { printable, table } from "../format.ts";
import type { StateChange } from "../protocol.ts";
import { connectTo, printJson, unread } from "./node.ts";
import type { NodeFlags } from "./node.ts";

interface StateFlags extends NodeFlags {
  readonly shared?: true;
}

export async function set(key: string, text: string, flags: StateFlags): Promise<void> {
  await using client = await connectTo(flags);
  await client.call("state.set", { key, value: parseValue(text), shared: flags.shared });
}

/** What is no JSON is meant as text. */
export function parseValue(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

export async function get(key: string, flags: StateFlags & { readonly member?: string }): Promise<void> {
  await using client = await connectTo(flags);
  const { value } = await client.call("state.get", { key, member: flags.member, shared: flags.shared });
  console.log(shown(value));
}

export async function remove(key: string, flags: StateFlags): Promise<void> {
  await using client = await connectTo(flags);
  const { existed } = await client.call("state.delete", { key, shared: flags.shared });
  if (!existed) console.error(`klatsch: ${key} had no value`);
}

export async function list(
  prefix: string | undefined,
  flags: StateFlags & { readonly member?: string; readonly json?: true },
): Promise<void> {
  await using client = await connectTo(flags);
  const { member, shared } = flags;
  const entries = await client.call("state.list", { prefix, member, shared });
  if (flags.json === true) {
    printJson(entries);
    return;
  }
  const members = await client.call("members", {});
  const names = new Map(members.map(({ peerId, name }) => [peerId, name]));
  console.log(
    table(
      [shared === true ? "WRITER" : "MEMBER", "KEY", "VALUE"],
      entries.map(({ peerId, key, value }) => [names.get(peerId) ?? peerId, key, shown(value)]),
    ),
  );
}

export async function watch(
  prefix: string | undefined,
  flags: StateFlags & { readonly json?: true },
): Promise<void> {
  await using client = await connectTo(flags);
  const changes = client.watchState({ prefix, shared: flags.shared }, (change) => {
    console.log(flags.json === true ? JSON.stringify(change) : lineOf(change));
  });
  await Promise.race([changes, unread()]);
}

function lineOf({ key, peerId, value }: StateChange): string {
  return printable(`${peerId} ${key} ${value === undefined ? "(deleted)" : shown(value)}`);
}

function shown(value: unknown): string {
  return typeof value === "string" ? printable(value) : JSON.stringify(value);
}
