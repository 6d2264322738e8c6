/** The unix socket of a node. Whatever comes in by it costs its own connection at most. */
import { once } from "node:events";
import { lstat, rm, stat } from "node:fs/promises";
import { createServer } from "node:net";
import type { Server, Socket } from "node:net";
import { dirname } from "node:path";
import { KlatschError } from "@klatsch/kit";
import type { Message } from "@klatsch/queue";
import { isAnswering } from "./client.ts";
import { NodeError } from "./errors.ts";
import type { Operations } from "./operation-types.ts";
import { LineReader, parseRequest, PING } from "./protocol.ts";
import type { Answer, Operation } from "./protocol.ts";

const CONNECTIONS_MAX = 64;
/** Requests of one connection that are not answered yet. */
const PENDING_MAX = 64;
/** Answers that wait for a reader, in bytes; whoever reads slower is cut. */
const UNREAD_BYTES_MAX: number = 24 * 1_024 * 1_024;
/** How long a closing connection may take to read its last answers, in milliseconds. */
const CLOSE_MS_MAX = 1_000;
/** Readable and writable for this user only: whoever can connect can do everything. */
const SOCKET_UMASK = 0o177;

export class SocketServer {
  readonly #server: Server;
  readonly #operations: Promise<Operations>;
  readonly #connections = new Set<Connection>();

  private constructor(operations: Promise<Operations>) {
    this.#operations = operations;
    // Half-open: a script may send its request and hang up, then read.
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(socket));
    this.#server.maxConnections = CONNECTIONS_MAX;
  }

  /**
   * Listens at `path`; requests wait until `operations` are there. What a killed process left there is removed.
   * @throws NodeError `ALREADY_RUNNING`, `USAGE` if something else is at `path`.
   */
  static async listen(path: string, operations: Promise<Operations>): Promise<SocketServer> {
    const refuse = (error: unknown): never => {
      throw new NodeError("USAGE", `socket: cannot listen at ${path}: ${(error as Error).message}`);
    };
    const server = new SocketServer(operations);
    try {
      await server.#bind(path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") {
        // Where there is no such directory, libuv says that permission is denied.
        await stat(dirname(path)).catch(refuse);
        refuse(error);
      }
      if (await isAnswering(path)) throw new NodeError("ALREADY_RUNNING", `a node runs at ${path} already`);
      if (!(await lstat(path)).isSocket()) throw new NodeError("USAGE", `socket: ${path} is no socket`);
      await rm(path, { force: true });
      await server.#bind(path);
    }
    return server;
  }

  async #bind(path: string): Promise<void> {
    const before = process.umask(SOCKET_UMASK);
    try {
      this.#server.listen(path); // Binds before it returns, so the mask is right from the beginning.
    } finally {
      process.umask(before);
    }
    await once(this.#server, "listening");
  }

  #accept(socket: Socket): void {
    const connection = new Connection(socket, this.#operations);
    this.#connections.add(connection);
    socket.on("close", () => this.#connections.delete(connection));
  }

  /** Nobody new comes in, and nobody waits any longer. Those who are served get their answers. */
  refuse(): void {
    this.#server.close();
    for (const connection of this.#connections) connection.cancel();
  }

  /** Resolves once all are answered and gone. */
  async close(): Promise<void> {
    this.refuse();
    await Promise.all([...this.#connections].map((connection) => connection.close()));
  }
}

class Connection {
  readonly #socket: Socket;
  readonly #operations: Promise<Operations>;
  readonly #reader = new LineReader();
  readonly #gone = new AbortController();
  readonly #caller = { signal: this.#gone.signal, holds: new Map<number, Message>() };
  #pending = 0;
  #isEnding = false;

  constructor(socket: Socket, operations: Promise<Operations>) {
    this.#socket = socket;
    this.#operations = operations;
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
    socket.on("end", () => {
      this.cancel();
      this.#endWhenAnswered();
    });
    socket.on("error", () => undefined); // `close` follows.
    socket.on("close", () => void this.#release());
  }

  /** Ends what waits for something to happen. */
  cancel(): void {
    this.#gone.abort();
  }

  async close(): Promise<void> {
    this.#endWhenAnswered();
    if (this.#socket.closed) return;
    const timer = setTimeout(() => this.#socket.destroy(), CLOSE_MS_MAX);
    await new Promise((resolve) => this.#socket.once("close", resolve));
    clearTimeout(timer);
  }

  #endWhenAnswered(): void {
    this.#isEnding = true;
    if (this.#pending === 0) this.#socket.destroySoon();
  }

  async #release(): Promise<void> {
    this.cancel();
    const held = [...this.#caller.holds.values()];
    this.#caller.holds.clear();
    // A lease that was lost, or a queue that stops: somebody else has the message, or will.
    await Promise.allSettled(held.map((message) => message.release()));
  }

  #read(chunk: Buffer): void {
    if (this.#isEnding) return;
    try {
      for (const line of this.#reader.push(chunk)) this.#serve(line);
    } catch (error) {
      this.#say({ id: null, error: told(error) }); // Where the next request begins, nobody knows.
      this.#endWhenAnswered();
    }
  }

  #serve(line: string): void {
    if (this.#pending >= PENDING_MAX) {
      const text = `${PENDING_MAX} requests of one connection wait already`;
      this.#say({ id: idOf(line), error: { code: "LIMIT_REACHED", message: text } });
      return;
    }
    this.#pending += 1;
    void this.#answer(line).then((answer) => {
      this.#say(answer);
      this.#pending -= 1;
      if (this.#isEnding) this.#endWhenAnswered();
    });
  }

  /** Never rejects. */
  async #answer(line: string): Promise<Answer> {
    try {
      const { id, op, args } = parseRequest(line);
      if (op === PING) return { id, ok: {} };
      const operations = await this.#operations;
      if (!Object.hasOwn(operations, op)) {
        throw new NodeError("BAD_REQUEST", `op: there is no operation ${JSON.stringify(op.slice(0, 64))}`);
      }
      const run = operations[op as Operation];
      return { id, ok: await run(args, this.#caller, (event) => this.#say({ id, event })) };
    } catch (error) {
      return { id: idOf(line), error: told(error) };
    }
  }

  #say(answer: Answer): void {
    if (this.#socket.destroyed || this.#socket.writableEnded) return;
    this.#socket.write(`${JSON.stringify(answer)}\n`);
    if (this.#socket.writableLength > UNREAD_BYTES_MAX) this.#socket.destroy();
  }
}

/** The id of a request that could not be served, if it has one. */
function idOf(line: string): number | null {
  try {
    return parseRequest(line).id;
  } catch {
    return null;
  }
}

function told(error: unknown): { readonly code: string; readonly message: string } {
  if (error instanceof KlatschError) return { code: error.code, message: error.message };
  return { code: "INTERNAL", message: error instanceof Error ? error.message : String(error) };
}
