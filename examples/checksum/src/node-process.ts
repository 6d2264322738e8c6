import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Counters, FromNode, ToNode } from "./protocol.ts";

type Report = FromNode & { readonly type: "report" };

/** A node as the starter sees it: a forked process that is told things, reports, and may die. */
export class NodeProcess {
  readonly name: string;
  /** As last reported. */
  counters: Counters = { bytesRead: 0, electionsWon: 0, redelivered: 0 };
  onReport: ((report: Report) => void) | undefined;
  /** Resolves with how the process ended, once everything it had sent was received. */
  readonly ended: Promise<string>;
  readonly #child: ChildProcess;
  readonly #heard = new Map<FromNode["type"], FromNode>();
  readonly #waiting = new Map<FromNode["type"], (message: FromNode) => void>();
  #failure: string | undefined;
  #isAlive = true;

  constructor(name: string) {
    this.name = name;
    // Options of node (`--conditions=…`) are passed on by `execArgv`'s default.
    this.#child = fork(fileURLToPath(new URL("worker.ts", import.meta.url)));
    this.#child.on("message", (message) => this.#onMessage(message as FromNode));
    // A message to a process that has just died: `ended` tells.
    this.#child.on("error", () => undefined);
    this.ended = once(this.#child, "close").then(([code, signal]: (number | string | null)[]) => {
      this.#isAlive = false;
      return this.#failure ?? (signal === null ? `exit code ${code}` : `${signal}`);
    });
  }

  /** Neither ended nor about to. */
  get isAlive(): boolean {
    return this.#isAlive;
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  send(message: ToNode): void {
    if (this.#child.connected) this.#child.send(message);
  }

  /** The message of this type, now or when it comes. */
  async hear<Type extends FromNode["type"]>(
    type: Type,
    timeoutMs: number,
  ): Promise<FromNode & { readonly type: Type }> {
    const timeout = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => timeout.reject(new Error(`${this.name}: not "${type}" within ${timeoutMs / 1_000} s`)),
      timeoutMs,
    );
    const message = new Promise<FromNode>((resolve) => {
      const heard = this.#heard.get(type);
      if (heard === undefined) this.#waiting.set(type, resolve);
      else resolve(heard);
    });
    const ended = this.ended.then((how) => {
      throw new Error(`${this.name} ended: ${how}`);
    });
    try {
      return (await Promise.race([message, ended, timeout.promise])) as FromNode & { readonly type: Type };
    } finally {
      clearTimeout(timer);
    }
  }

  #onMessage(message: FromNode): void {
    if ("counters" in message) this.counters = message.counters;
    if (message.type === "report") return this.onReport?.(message);
    if (message.type === "failed") this.#failure = message.reason;
    this.#heard.set(message.type, message);
    this.#waiting.get(message.type)?.(message);
  }

  /** Ends the process without any warning. Resolves once it is gone. */
  async kill(): Promise<void> {
    this.#isAlive = false;
    this.#child.kill("SIGKILL");
    await this.ended;
  }
}
