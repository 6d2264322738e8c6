import type { Mesh } from "@klatsch/mesh";

import { QueueError } from "../errors.ts";
import type { MessageOptions } from "../options.ts";
import {
  checkBody,
  parseBinding,
  parseExchange,
  parseExchangeName,
  parsePublish,
  refuse,
} from "../options.ts";
import { PublishError } from "../publish-error.ts";
import type { Exchange, ExchangeInit, Published, PublishOptions, Resolution } from "../types.ts";
import { copyOf } from "./content.ts";
import { Exchanges } from "./exchanges.ts";
import type { ExchangeDefinition } from "./exchanges.ts";
import { publishTo } from "./publish.ts";

/** What publishing needs of the node's queues. */
interface ExchangePort {
  /** @throws QueueError `STOPPED`, `FAILED`. */
  check(): void;
  enqueue(
    queue: string,
    body: Uint8Array,
    message: MessageOptions,
    publishId: string,
    timeoutMs: number,
  ): Promise<{ readonly id: string }>;
  deduplicates(queue: string): boolean;
  resolve(id: string, timeoutMs: number): Promise<Resolution>;
}

/** The public calls about exchanges. */
export class ExchangeCalls {
  readonly #exchanges: Exchanges;
  readonly #port: ExchangePort;

  constructor(mesh: Mesh, port: ExchangePort) {
    this.#exchanges = new Exchanges(mesh);
    this.#port = port;
  }

  stop(): void {
    this.#exchanges.stop();
  }

  names(): readonly string[] {
    return this.#exchanges.names();
  }

  async declare(name: string, init: ExchangeInit | undefined): Promise<Exchange> {
    this.#port.check();
    const wanted = parseExchange(init);
    const known = this.#exchanges.get(parseExchangeName(name));
    if (known !== undefined && (known.kind !== wanted.kind || known.alternate !== wanted.alternate)) {
      const text = `exchange ${name} exists as ${known.kind} with the alternate ${known.alternate ?? "none"}`;
      throw new QueueError("EXCHANGE_CONFLICT", text);
    }
    if (known === undefined) await this.#exchanges.declare(name, wanted);
    return this.open(name);
  }

  async delete(name: string): Promise<void> {
    this.#port.check();
    await this.#exchanges.delete(parseExchangeName(name));
  }

  async unbindAll(queue: string): Promise<void> {
    await this.#exchanges.unbindAll(queue);
  }

  #assertKnown(name: string): ExchangeDefinition {
    if (typeof name !== "string") refuse("name", "must be a text");
    const known = this.#exchanges.get(name);
    if (known === undefined) throw new QueueError("EXCHANGE_NOT_FOUND", `no exchange ${name} is known here`);
    return known;
  }

  open(name: string): Exchange {
    const known = this.#assertKnown(name);
    const exchanges = this.#exchanges;
    const usable = (): Exchanges => {
      this.#port.check();
      this.#assertKnown(name);
      return exchanges;
    };
    return {
      name,
      ...known,
      bind: async (queue, options) => await usable().bind(name, parseBinding(queue, options)),
      unbind: async (queue, options) => await usable().unbind(name, parseBinding(queue, options)),
      bindings: () => structuredClone(exchanges.bindingsOf(name)),
      publish: (body, options) => this.#publish(name, body, options),
    };
  }

  async #publish(name: string, body: Uint8Array, options: PublishOptions | undefined): Promise<Published> {
    this.#port.check();
    const { key, retry, message, timeoutMs } = parsePublish(options);
    checkBody(body);
    const own = copyOf(body);
    const queues = this.#exchanges.route(name, { key, headers: message.headers ?? {} });
    if (queues.length === 0 && retry === undefined) {
      throw new QueueError("UNROUTABLE", `exchange ${name} has no queue for the key "${key}"`);
    }
    const port = {
      enqueue: (queue: string, publishId: string) =>
        this.#port.enqueue(queue, own, message, publishId, timeoutMs),
      deduplicates: (queue: string) => this.#port.deduplicates(queue),
      resolve: (id: string) => this.#port.resolve(id, timeoutMs),
    };
    const published = await publishTo(port, queues, retry);
    if (published.outcomes.every(({ error }) => error === undefined)) return published;
    throw new PublishError(published);
  }
}
