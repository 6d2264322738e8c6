/** Commands of those who look after queues. */
import type { Changed, MessageInfo } from "@klatsch/queue";
import { NodeError } from "../errors.ts";
import { printable, table, valueRows } from "../format.ts";
import { STATES } from "../protocol.ts";
import { connectTo, printJson } from "./node.ts";
import type { NodeFlags } from "./node.ts";

type JsonFlags = NodeFlags & { readonly json?: true };
type BrowseFlags = JsonFlags & { readonly state?: string; readonly limit?: number };

function stateOf(text: string | undefined): (typeof STATES)[number] | undefined {
  const state = STATES.find((each) => each === text);
  if (text !== undefined && state === undefined) {
    throw new NodeError("USAGE", `--state: must be one of ${STATES.join(", ")}`);
  }
  return state;
}

function messagesTable(messages: readonly MessageInfo[]): string {
  return table(
    ["ID", "STATE", "EPOCH", "FAILED", "AGE S", "BYTES", "GROUP", "KEY", "HOLDER OR REASON"],
    messages.map((message) => [
      message.id,
      message.state,
      String(message.epoch),
      String(message.deliveries),
      (message.ageMs / 1_000).toFixed(1),
      String(message.bodyBytes),
      message.group ?? "-",
      message.dedupKey ?? "-",
      message.reason ?? message.holder?.peer ?? "",
    ]),
  );
}

function tellMissing(missing: readonly string[]): void {
  for (const peer of missing) console.error(printable(`${peer} did not answer`));
}

export async function browse(queue: string, { json, state, limit, ...flags }: BrowseFlags): Promise<void> {
  await using client = await connectTo(flags);
  const found = await client.call("queue.browse", { queue, state: stateOf(state), limit });
  if (json === true) return printJson(found);
  console.log(messagesTable(found.messages));
  tellMissing(found.missing);
}

/** What is dead, each with its history below it. */
export async function dead(queue: string, { json, limit, ...flags }: BrowseFlags): Promise<void> {
  await using client = await connectTo(flags);
  const found = await client.call("queue.browse", { queue, state: "dead", limit });
  if (json === true) return printJson(found);
  console.log(messagesTable(found.messages));
  for (const { id, failures } of found.messages) {
    for (const { epoch, atWallMs, peer, reason } of failures) {
      console.log(printable(`${id} epoch ${epoch} ${new Date(atWallMs).toISOString()} ${peer}: ${reason}`));
    }
  }
  tellMissing(found.missing);
}

export async function peek(queue: string, { json, state, limit, ...flags }: BrowseFlags): Promise<void> {
  await using client = await connectTo(flags);
  const messages = await client.call("queue.peek", { queue, state: stateOf(state), limit });
  if (json === true) return printJson(messages);
  for (const { id, headers, body } of messages) {
    const named = Object.entries(headers).map(([name, value]) => `${name}=${value}`);
    console.log(printable([id, ...named].join(" ")));
    console.log(printable(Buffer.from(body, "base64").toString("utf8")));
  }
}

export async function count(queue: string, { json, ...flags }: JsonFlags): Promise<void> {
  await using client = await connectTo(flags);
  const counts = await client.call("queue.counts", { queue });
  if (json === true) return printJson(counts);
  const { missing, ...rest } = counts;
  console.log(table(["STATE", "MESSAGES"], valueRows(rest)));
  tellMissing(missing);
}

export async function consumers(queue: string, { json, ...flags }: JsonFlags): Promise<void> {
  await using client = await connectTo(flags);
  const all = await client.call("queue.consumers", { queue });
  if (json === true) return printJson(all);
  const rows = all.map((one) => [one.peer, one.session, String(one.prefetch), String(one.held)]);
  console.log(table(["PEER", "SESSION", "PREFETCH", "HELD"], rows));
}

/** What each group waits for. */
export async function groups(queue: string, { json, ...flags }: JsonFlags): Promise<void> {
  await using client = await connectTo(flags);
  const found = await client.call("queue.groups", { queue });
  if (json === true) return printJson(found);
  const rows = found.groups.map(({ group, count: all, head }) => [
    group,
    String(all),
    head.state,
    (head.ageMs / 1_000).toFixed(1),
    head.id,
    head.holder?.peer ?? "",
  ]);
  console.log(table(["GROUP", "MESSAGES", "FIRST IS", "AGE S", "ID", "HOLDER"], rows));
  for (const no of found.unreachable) console.error(`shard ${no} is blocked: nobody who answers writes it`);
  tellMissing(found.missing);
}

export async function inspect(id: string, { json, ...flags }: JsonFlags): Promise<void> {
  await using client = await connectTo(flags);
  const found = await client.call("queue.inspect", { id });
  if (json === true) return printJson(found);
  const rows = found.replicas.map(({ peer, ballot, finished, message }) => [
    peer,
    peer === found.writer ? "writer" : "",
    finished ? "finished" : (message?.state ?? "-"),
    message === undefined ? "-" : String(message.epoch),
    ballot === undefined ? "-" : `${ballot.round}.${ballot.step} ${ballot.proposer.slice(0, 8)}`,
    message?.reason ?? message?.holder?.peer ?? "",
  ]);
  console.log(table(["REPLICA", "ROLE", "STATE", "EPOCH", "VOTED FOR", "HOLDER OR REASON"], rows));
  const { group, dedupKey } = found.replicas.find(({ message }) => message !== undefined)?.message ?? {};
  if (group !== undefined) console.log(printable(`group ${group}`));
  if (dedupKey !== undefined) console.log(printable(`key ${dedupKey}`));
  tellMissing(found.missing);
}

function tellChanged({ count: changed, missing }: Changed): void {
  console.log(String(changed));
  tellMissing(missing);
}

const some = (ids: readonly string[]): readonly string[] | undefined => (ids.length === 0 ? undefined : ids);

export async function redrive(queue: string, ids: readonly string[], flags: NodeFlags): Promise<void> {
  await using client = await connectTo(flags);
  tellChanged(await client.call("queue.redrive", { queue, ids: some(ids) }));
}

export async function purge(
  queue: string,
  ids: readonly string[],
  { dead: isDead, ...flags }: NodeFlags & { readonly dead?: true },
): Promise<void> {
  await using client = await connectTo(flags);
  tellChanged(await client.call("queue.purge", { queue, ids: some(ids), dead: isDead }));
}

/** Prints how many messages it had. */
export async function remove(queue: string, flags: NodeFlags): Promise<void> {
  await using client = await connectTo(flags);
  tellChanged(await client.call("queue.delete", { queue }));
}

export async function pause(paused: boolean, queue: string, flags: NodeFlags): Promise<void> {
  await using client = await connectTo(flags);
  await client.call("queue.pause", { queue, paused });
}

export async function drain(
  queue: string,
  { timeoutMs, ...flags }: NodeFlags & { readonly timeoutMs?: number },
): Promise<void> {
  await using client = await connectTo(flags);
  await client.call("queue.drain", { queue, timeoutMs });
}
