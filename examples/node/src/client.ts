/** The other side of a node's socket. */
import { once } from "node:events";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { NodeError, RemoteError } from "./errors.ts";
import { LineReader, PING } from "./protocol.ts";
import type { Answer, Contract, MemberChange, Operation, StateChange } from "./protocol.ts";

/** How long a node may take to say that it is there, whatever it is asked, in milliseconds. */
const SILENT_MS_MAX = 10_000;

interface Pending {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly onEvent: ((event: unknown) => void) | undefined;
}

/** A connection to a running node. */
export class Client implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #reader = new LineReader();
  readonly #pending = new Map<number, Pending>();
  readonly #silence: NodeJS.Timeout;
  #lastId = 0;

  private constructor(socket: Socket, silentMsMax: number) {
    this.#socket = socket;
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
    socket.on("error", () => undefined); // `close` follows.
    socket.on("close", () => this.#fail(new NodeError("CANCELLED", "the node hung up before it answered")));
    // The operating system accepts connections to a process that is stopped, too.
    this.#silence = setTimeout(() => {
      const text = `the node has said nothing for ${silentMsMax / 1_000} s: it is stopped, or too busy`;
      this.#fail(new NodeError("SILENT", text));
      socket.destroy();
    }, silentMsMax);
    this.#request(PING, {}, undefined).catch(() => undefined); // A refusal is an answer too.
  }

  /** @throws NodeError `NOT_RUNNING`. */
  static async connect(path: string, silentMsMax: number = SILENT_MS_MAX): Promise<Client> {
    const socket = connect(path);
    try {
      await once(socket, "connect");
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === "ENOENT" || code === "ECONNREFUSED") {
        throw new NodeError("NOT_RUNNING", `no node runs at ${path}; start one by "klatsch up"`);
      }
      throw new NodeError("NOT_RUNNING", `cannot reach the node: ${message}`);
    }
    return new Client(socket, silentMsMax);
  }

  /** @throws RemoteError with the node's code, NodeError `CANCELLED`, `SILENT`. */
  async call<Op extends Operation>(op: Op, args: Contract[Op]["args"]): Promise<Contract[Op]["result"]> {
    return (await this.#request(op, args, undefined)) as Contract[Op]["result"];
  }

  /** Calls `onChange` for each change, until the node hangs up. */
  async watchMembers(onChange: (change: MemberChange) => void): Promise<void> {
    await this.#request("members.watch", {}, (event) => onChange(event as MemberChange));
  }

  /** Calls `onChange` for each change, until the node hangs up. */
  async watchState(
    args: Contract["state.watch"]["args"],
    onChange: (change: StateChange) => void,
  ): Promise<void> {
    await this.#request("state.watch", args, (event) => onChange(event as StateChange));
  }

  #request(op: Operation | typeof PING, args: object, onEvent: Pending["onEvent"]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#socket.destroyed) {
        reject(new NodeError("CANCELLED", "the node hung up"));
        return;
      }
      this.#lastId += 1;
      this.#pending.set(this.#lastId, { resolve, reject, onEvent });
      this.#socket.write(`${JSON.stringify({ id: this.#lastId, op, args })}\n`);
    });
  }

  #read(chunk: Buffer): void {
    try {
      for (const line of this.#reader.push(chunk)) this.#onAnswer(JSON.parse(line) as Answer);
    } catch (error) {
      this.#fail(error instanceof Error ? error : new Error(String(error)));
      this.#socket.destroy();
    }
  }

  #onAnswer({ id, ok, event, error }: Answer): void {
    clearTimeout(this.#silence);
    const pending = this.#pending.get(id ?? 0);
    if (error !== undefined && id === null) {
      this.#fail(new RemoteError(error.code, error.message)); // It could not tell which request it was.
    } else if (event !== undefined) {
      pending?.onEvent?.(event);
    } else {
      this.#pending.delete(id ?? 0);
      if (error === undefined) pending?.resolve(ok);
      else pending?.reject(new RemoteError(error.code, error.message));
    }
  }

  #fail(error: Error): void {
    clearTimeout(this.#silence);
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#socket.closed) return;
    this.#socket.destroySoon();
    await once(this.#socket, "close");
  }
}

/** Whether a process listens at `path`. */
export async function isAnswering(path: string): Promise<boolean> {
  try {
    await using _client = await Client.connect(path);
    return true;
  } catch {
    return false;
  }
}
