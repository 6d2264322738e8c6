/** The command line: what can be said, and which exit code follows. */
import { readFileSync } from "node:fs";
import { KlatschError } from "@klatsch/kit";
import { Command, CommanderError, InvalidArgumentError } from "commander";
import { whenToldToEnd } from "./commands/ending.ts";
import type * as keys from "./commands/keys.ts";
import * as node from "./commands/node.ts";
import * as queue from "./commands/queue.ts";
import * as rpc from "./commands/rpc.ts";
import * as state from "./commands/state.ts";
import * as tend from "./commands/tend.ts";
import type { UpFlags } from "./config.ts";

/** Exit code for a command line or configuration that cannot be. */
const USAGE = 2;
const USAGE_CODES: ReadonlySet<string> = new Set([
  "USAGE",
  "INVALID_OPTIONS",
  "INVALID_TARGET",
  "STATE_INVALID",
  "BAD_REQUEST",
  "CERTIFICATE_INVALID",
]);

function wholeNumber(text: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError("It must be a whole number.");
  return value;
}

/** A number, or `default`. */
function altered(text: string): number | "default" {
  return text === "default" ? text : wholeNumber(text);
}

/** A parser of what may be said several times: unlike a list of values, it takes nothing that follows. */
function collected(text: string, before: readonly string[] = []): readonly string[] {
  return [...before, text];
}

/** A parser of days within what the mesh allows: it would name milliseconds, and no flag. */
function daysFrom(min: number, max: number): (text: string) => number {
  return (text) => {
    const days = wholeNumber(text);
    if (days < min || days > max) throw new InvalidArgumentError(`It must be from ${min} to ${max}.`);
    return days;
  };
}

/** Nothing at all would be the directory that the command is given in: a variable that was not set. */
function path(text: string): string {
  if (text === "") throw new InvalidArgumentError("It must not be empty.");
  return text;
}

/** What was not printed is not done. Whoever has read enough, as `head` has, may go. */
function failOnLostOutput(error: NodeJS.ErrnoException): void {
  if (error.code === "EPIPE") return;
  console.error(`klatsch: ${error.message}`);
  process.exit(1);
}

/** A node outlives what it tells. */
function keepOnLostOutput(): void {
  process.stdout.off("error", failOnLostOutput);
}

/** All has stopped. Names that are still to be looked up, which nothing can cancel, would hold the process one after the other. */
function endWith(code: number): never {
  process.exit(code);
}

function addUp(program: Command): void {
  program
    .command("up")
    .description("run a node until it is told to stop")
    .option("--name <name>", "what people call this node")
    .option("--data <dir>", "directory of its identity and queues; one node each", path)
    .option("--listen <address...>", "multiaddrs to listen on (default: loopback, any port)")
    .option("--announce <address...>", "multiaddrs that others shall dial, if they differ")
    .option("--bootstrap <address...>", "addresses of nodes to join by, with or without /p2p/…")
    .option("--mesh <name>", "only nodes of the same mesh name meet")
    .option("--join-any", "wait for the first member that dials this node, and join its mesh for good")
    .option("--cloud <name>", "where this node is")
    .option("--tag <key=value...>", "its tags")
    .option("--admission <rule>", '"open", or "certificate"; one is needed to listen beyond loopback')
    .option("--certificate <file>", "this node's certificate (default: what it was given when adopted)")
    .option("--socket <path>", "unix socket for commands (default: klatsch.sock in the data directory)", path)
    .option("--config <file>", "JSON with fields named like these flags, and tags as an object; flags win")
    .action(async (flags: UpFlags) => {
      keepOnLostOutput();
      // Not before: the commands for a running node have no use for a mesh of their own, and start faster.
      const ending = whenToldToEnd();
      const { up } = await import("./commands/up.ts");
      endWith(await up(flags, ending));
    });
}

/** Waits for an adopter, then runs as a member. */
function addEnrol(program: Command): void {
  program
    .command("enrol")
    .description("run a fresh node that waits to be adopted, and then is a member")
    .requiredOption("--data <dir>", "directory of its identity and queues", path)
    .requiredOption("--listen <address...>", "multiaddrs to listen on, then and later")
    .option("--socket <path>", "unix socket for commands, once it is a member", path)
    .action(async (flags: { data: string; listen: readonly string[]; socket?: string }) => {
      keepOnLostOutput();
      const ending = whenToldToEnd();
      const { waitForAdoption } = await import("./commands/keys.ts");
      if (!(await waitForAdoption(flags, ending))) return;
      const { up } = await import("./commands/up.ts");
      endWith(await up(flags, ending));
    });
}

type Args<Name extends keyof typeof keys> = Parameters<(typeof keys)[Name]>;

/** A command about keys. They load the mesh; the others start faster without it. */
function withKeys<Name extends keyof typeof keys>(name: Name): (...args: Args<Name>) => Promise<void> {
  return async (...args) => {
    const commands = await import("./commands/keys.ts");
    await (commands[name] as (...args: Args<Name>) => Promise<void>)(...args);
  };
}

function authorised(parent: Command, usage: string, description: string): Command {
  return parent
    .command(usage)
    .description(description)
    .requiredOption("--authority <dir>", "directory of the mesh's root key, or of an admin key", path);
}

function telling(command: Command): Command {
  return command
    .option("--data <dir>", "tell the node of this data directory; else the text is printed", path)
    .option("--socket <path>", "its socket, if that is elsewhere", path);
}

function describing(command: Command): Command {
  return command
    .requiredOption("--name <name>", "what people call the node")
    .option("--cloud <name>", "where the node is")
    .option("--tag <key=value...>", "its tags")
    .option("--capability <name...>", 'what it may do (default: "*", all but "ca")')
    .option("--days <days>", "how long the certificate is valid (default: 90)", daysFrom(1, 400));
}

function addKeyCommands(program: Command): void {
  const mesh = program.command("mesh").description("make a mesh of certificates, and look after its keys");
  authorised(mesh, "create", "make a new mesh: its root key").action(withKeys("createRoot"));
  authorised(mesh, "delegate <directory>", "make or prolong an admin key")
    .option("--days <days>", "how long it may issue (default: 365)", daysFrom(1, 400))
    .action(withKeys("delegate"));
  telling(authorised(mesh, "rotate", "let the next root key take over"))
    .option("--overlap-days <days>", "how long the old one still counts (default: 30)", daysFrom(0, 30))
    .action(withKeys("rotate"));
  asking(mesh, "publish", "tell a node a revocation or rotation, from standard input").action(
    withKeys("publish"),
  );
  const cert = program.command("cert").description("certificates of nodes");
  cert
    .command("peer")
    .description("the peer id of a node, whose key is made if there is none")
    .requiredOption("--data <dir>", "data directory of the node", path)
    .action(withKeys("peerId"));
  describing(authorised(cert, "issue", "print a certificate for a node"))
    .requiredOption("--peer <id>", "its peer id")
    .action(withKeys("issue"));
  cert
    .command("show <file>")
    .description("what a certificate says")
    .option("--json", "as JSON")
    .action(withKeys("show"));
  telling(
    authorised(cert, "revoke <subject>", "end a key (peer id) or a certificate (serial), for ever"),
  ).action(withKeys("revoke"));
  describing(authorised(program, "adopt <address> <code>", "make a waiting node a member"))
    .option("--bootstrap <address...>", "addresses by which it joins")
    .action(withKeys("adopt"));
}

/** A command for a running node. */
function asking(parent: Command, usage: string, description: string): Command {
  return parent
    .command(usage)
    .description(description)
    .option("--data <dir>", "data directory of the node", path)
    .option("--socket <path>", "its socket, if that is elsewhere", path);
}

function withQueueOptions(command: Command): Command {
  return command
    .option("--replicas <count>", "stores that keep each message, odd (default: 3)", wholeNumber)
    .option("--lease-ms <ms>", "how long a taken message is held (default: 30000)", wholeNumber)
    .option("--max-length <count>", "messages it holds (default: no limit)", wholeNumber)
    .option("--max-bytes <bytes>", "bytes it holds (default: no limit)", wholeNumber)
    .option("--body-bytes-max <bytes>", "longest message (default: 1048576)", wholeNumber)
    .option("--max-deliveries <count>", "failures after which it is dead (default: 20)", wholeNumber)
    .option("--dead-ttl-ms <ms>", "how long a dead one is kept (default: for ever)", wholeNumber)
    .option("--groups", "messages of a group come in order, one at a time")
    .option("--dedup-ms <ms>", "how long a deduplication key counts (default: there are none)", wholeNumber)
    .option("--shards <count>", "parts of a queue with groups or keys (default: 4)", wholeNumber)
    .option("--relaxed", "replicas answer before their disks have a message: a power cut may take it");
}

function addNodeCommands(program: Command): void {
  asking(program, "members", "who is there, as the node sees it")
    .option("--json", "as JSON")
    .option("--watch", "then each change, until interrupted")
    .action(node.members);
  asking(program, "tags [key=value...]", "the node's tags, changed first as asked; until it stops")
    .option("--delete <key...>", "without these")
    .option("--json", "as JSON")
    .action(node.tags);
  asking(program, "trace <name>", "the way to a member, hop by hop, for each class of traffic")
    .option("--json", "as JSON")
    .action(node.trace);
  asking(program, "addresses", "the node's full addresses, for --bootstrap").action(node.addresses);
  asking(program, "stats", "the node's counters").option("--json", "as JSON").action(node.stats);
  asking(program, "metrics", "the node's numbers, for Prometheus").action(node.metrics);
  asking(program, "stop", "stop the node; it may come back").action((flags: node.NodeFlags) =>
    node.stop("stop", flags),
  );
  asking(program, "leave", "stop the node for good").action((flags: node.NodeFlags) =>
    node.stop("leave", flags),
  );
}

function addQueueCommands(program: Command): void {
  const queues = program.command("queue").description("put messages, take them, and look after queues");
  withQueueOptions(asking(queues, "declare <queue>", "make a queue known")).action(queue.declare);
  withQueueOptions(
    asking(queues, "put <queue> [text]", "enter a message: the text, a file, or standard input"),
  )
    .option("--file <path>", "its body")
    .option("--timeout-ms <ms>", "how long to wait for a quorum (default: 10000)", wholeNumber)
    .option("--group <name>", "after the messages of this group that are there")
    .option("--dedup-key <key>", "unless there was one with this key lately: then its id is printed")
    .option(
      "--priority <digit>",
      "0 to 9: of those that wait at one node, higher ones go first (default: 0)",
      wholeNumber,
    )
    .option("--delay-ms <ms>", "nobody gets it earlier (default: 0)", wholeNumber)
    .option("--ttl-ms <ms>", "dead if nobody took it by then (default: never)", wholeNumber)
    .option("--header <name=value>", "a header; again for another one", collected)
    .action(queue.put);
  withQueueOptions(asking(queues, "take <queue>", "print a message and acknowledge it"))
    .option("--timeout-ms <ms>", "how long to wait for one (default: for ever)", wholeNumber)
    .option("--out <path>", "write its body to a file, and acknowledge it once that is on disk")
    .option("--no-ack", "put it back instead")
    .action(queue.take);
  asking(queues, "ls", "queues that the node knows").option("--json", "as JSON").action(queue.list);
  asking(queues, "resolve <id>", "whether a message was entered: ACKED, NEVER, PENDING or UNKNOWN")
    .option("--timeout-ms <ms>", "how long to wait for a decision (default: 10000)", wholeNumber)
    .action(queue.resolve);
  addTendingCommands(queues);
}

function addTendingCommands(queues: Command): void {
  const listing = (usage: string, description: string): Command =>
    asking(queues, usage, description)
      .option("--limit <count>", "at most as many, or on each page (default: 100)", wholeNumber)
      .option("--after <next>", "what follows the page that ended with this")
      .option("--json", "as JSON");
  const paging = (usage: string, description: string): Command =>
    listing(usage, description).option("--all", "page after page, to the end");
  const state = "any, alive, ready or dead (default: alive)";
  paging("browse <queue>", "messages as they are now").option("--state <state>", state).action(tend.browse);
  listing("peek <queue>", "messages with their bodies").option("--state <state>", state).action(tend.peek);
  paging("dead <queue>", "dead messages, and what happened to them").action(tend.dead);
  asking(queues, "count <queue>", "how many messages there are")
    .option("--json", "as JSON")
    .action(tend.count);
  asking(queues, "groups <queue>", "what each group waits for")
    .option("--json", "as JSON")
    .action(tend.groups);
  asking(queues, "consumers <queue>", "who consumes it").option("--json", "as JSON").action(tend.consumers);
  asking(queues, "inspect <id>", "which replicas have a message, and who holds it")
    .option("--json", "as JSON")
    .action(tend.inspect);
  asking(queues, "redrive <queue> [ids...]", "put dead messages back, these or all").action(tend.redrive);
  asking(queues, "purge <queue> [ids...]", "do away with messages that wait, these or all")
    .option("--dead", "with dead ones instead")
    .action(tend.purge);
  asking(queues, "alter <queue>", 'change its options on all nodes, to a number or "default"')
    .option("--lease-ms <ms>", "how long a message is held that is taken from now on", altered)
    .option("--max-deliveries <count>", "failures after which one is dead", altered)
    .option("--max-length <count>", "messages it holds", altered)
    .option("--max-bytes <bytes>", "bytes it holds", altered)
    .option("--body-bytes-max <bytes>", "longest message", altered)
    .option("--dead-ttl-ms <ms>", "how long a dead one is kept", altered)
    .action(queue.alter);
  asking(queues, "delete <queue>", "do away with it and all that is in it").action(tend.remove);
  asking(queues, "pause <queue>", "hand nobody a message of it").action(
    async (name: string, flags: node.NodeFlags) => await tend.pause(true, name, flags),
  );
  asking(queues, "resume <queue>", "hand them out again").action(
    async (name: string, flags: node.NodeFlags) => await tend.pause(false, name, flags),
  );
  asking(queues, "drain <queue>", "wait until no message is left that is not dead")
    .option("--timeout-ms <ms>", "how long (default: 60000)", wholeNumber)
    .action(tend.drain);
}

function addStateCommands(program: Command): void {
  const states = program
    .command("state")
    .description("what members say of themselves, and what all of them share");
  const shared = (command: Command): Command => command.option("--shared", "of what all members share");
  shared(asking(states, "set <key> <value>", "say something of this node: JSON, or text")).action(state.set);
  shared(asking(states, "get <key>", "print a value"))
    .option("--member <name>", "of this member (default: the node itself)")
    .action(state.get);
  shared(asking(states, "rm <key>", "take back what was said")).action(state.remove);
  shared(asking(states, "ls [prefix]", "all that is said, or what is under keys that begin so"))
    .option("--member <name>", "by this member only")
    .option("--json", "as JSON")
    .action(state.list);
  shared(asking(states, "watch [prefix]", "each change, until interrupted"))
    .option("--json", "as JSON")
    .action(state.watch);
}

function addRpcCommands(program: Command): void {
  const deadline = (command: Command): Command =>
    command.option("--deadline-ms <ms>", "how long to wait (default: 10000)", wholeNumber);
  deadline(
    asking(program, "call <member> <method> [input]", "call a method of a member: JSON, or text"),
  ).action(rpc.call);
  asking(program, "cast <target> <method> [input]", "have all who are meant run a method").action(rpc.cast);
  deadline(asking(program, "gather <target> <method> [input]", "ask all who are meant, and fold the answers"))
    .option("--reduce <how>", "count, sum, min, max, avg, set or concat (default: concat)")
    .option("--of <path>", "the field of the answers that counts")
    .option("--json", "with who answered, failed and is missing, as JSON")
    .action(rpc.gather);
  asking(program, "methods [member]", "methods that a member offers").action(rpc.methods);
}

function version(): string {
  const manifest = readFileSync(new URL("../package.json", import.meta.url), "utf8");
  return (JSON.parse(manifest) as { version: string }).version;
}

function createProgram(): Command {
  const program = new Command("klatsch")
    .version(version())
    .description("a node of a masterless mesh, and commands for it")
    .exitOverride()
    .showHelpAfterError('("klatsch help" tells more)')
    .addHelpText("after", "\nexit codes: 0 done, 1 failed, 2 a command line or configuration that cannot be");
  addUp(program);
  addEnrol(program);
  addKeyCommands(program);
  addNodeCommands(program);
  addQueueCommands(program);
  addStateCommands(program);
  addRpcCommands(program);
  return program;
}

export async function main(): Promise<void> {
  process.stdout.on("error", failOnLostOutput);
  try {
    await createProgram().parseAsync();
  } catch (error) {
    process.exitCode = exitCodeOf(error);
    if (error instanceof CommanderError) return; // It has been told.
    if (error instanceof KlatschError) console.error(`klatsch: ${error.message} (${error.code})`);
    else if (isSystemError(error)) console.error(`klatsch: ${error.message}`);
    else console.error(error);
  }
}

/** What the system would not do says enough by itself. */
function isSystemError(error: unknown): error is Error {
  return error instanceof Error && "syscall" in error;
}

function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE;
  return error instanceof KlatschError && USAGE_CODES.has(error.code) ? USAGE : 1;
}
