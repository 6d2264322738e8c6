/** Commands of those who look after queues. */
import type { Browsed, Changed, MessageInfo } from "@klatsch/queue";
import { NodeError } from "../errors.ts";
import { printable, table, valueRows } from "../format.ts";
import { STATES } from "../protocol.ts";
import { connectTo, printJson } from "./node.ts";
import type { NodeFlags } from "./node.ts";

type JsonFlags = NodeFlags & { readonly json?: true };
type ListFlags = JsonFlags & { readonly limit?: number; readonly after?: string };
type PagesFlags = ListFlags & { readonly all?: true };
type BrowseFlags = { readonly state?: string };

function stateOf(text: string | undefined): (typeof STATES)[number] | undefined {
  const state = STATES.find((each) => each === text);
  if (text !== undefined && state === undefined) {
    throw new NodeError("USAGE", `--state: must be one of ${STATES.join(", ")}`);
  }
  return state;
}

const HEADINGS = ["ID", "STATE", "EPOCH", "FAILED", "AGE S", "BYTES", "GROUP", "KEY", "HOLDER OR REASON"];

function rowOf(message: MessageInfo): readonly string[] {
  return [
    message.id,
    message.state,
    String(message.epoch),
    String(message.deliveries),
    (message.ageMs / 1_000).toFixed(1),
    String(message.bodyBytes),
    message.group ?? "-",
    message.dedupKey ?? "-",
    message.reason ?? message.holder?.peer ?? "",
  ];
}

function tellMissing(missing: readonly string[]): void {
  for (const peer of missing) console.error(printable(`${peer} did not answer`));
}

function tellAround({ next, missing, unserved }: Browsed, isAll: boolean): void {
  tellMissing(missing);
  if (unserved > 0) console.error(`${unserved} more may be there: no node that answers serves them now`);
  if (next !== undefined && !isAll) console.error(`there is more: --after ${next}, or --all`);
}

/** A page, or one after the other: none is kept. */
async function pages(
  queue: string,
  state: (typeof STATES)[number] | undefined,
  { json, limit, after: first, all, ...flags }: PagesFlags,
  more: (messages: readonly MessageInfo[]) => readonly string[],
): Promise<void> {
  await using client = await connectTo(flags);
  const isAll = all === true;
  let after = first;
  do {
    const found = await client.call("queue.browse", { queue, state, limit, after });
    if (json === true) printJson(found);
    else {
      const [heading = "", ...rows] = table(HEADINGS, found.messages.map(rowOf)).split("\n");
      const head = after === first ? [heading] : [];
      for (const line of [...head, ...rows, ...more(found.messages)]) console.log(line);
      tellAround(found, isAll);
    }
    after = isAll ? found.next : undefined;
  } while (after !== undefined);
}

export async function browse(queue: string, { state, ...flags }: PagesFlags & BrowseFlags): Promise<void> {
  await pages(queue, stateOf(state), flags, () => []);
}

/** What is dead, each page with the history of its messages below it. */
export async function dead(queue: string, flags: PagesFlags): Promise<void> {
  await pages(queue, "dead", flags, (messages) =>
    messages.flatMap(({ id, failures }) =>
      failures.map(({ epoch, atWallMs, peer, reason }) =>
        printable(`${id} epoch ${epoch} ${new Date(atWallMs).toISOString()} ${peer}: ${reason}`),
      ),
    ),
  );
}

export async function peek(
  queue: string,
  { json, state, limit, after, ...flags }: ListFlags & BrowseFlags,
): Promise<void> {
  await using client = await connectTo(flags);
  const messages = await client.call("queue.peek", { queue, state: stateOf(state), limit, after });
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
