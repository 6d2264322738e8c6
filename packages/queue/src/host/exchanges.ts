import type { Mesh } from "@klatsch/mesh";
import { hash } from "node:crypto";
import { z } from "zod";

import { pack } from "../codec/packr.ts";
import type { Binding, ExchangeKind, Routed } from "../core/exchange.ts";
import { RoutingTable } from "../core/exchange.ts";
import { QueueError } from "../errors.ts";
import { BOUND_VALUE_MAX, nameSchema } from "../options.ts";
import { Gate } from "./gate.ts";

/** Exchanges that pass a message on to their alternates, one after another, at most. */
const ALTERNATES_MAX = 8;
/** Bindings of all exchanges that one node follows at most; further ones are not routed by. */
const BINDINGS_MAX = 10_000;

/** Bindings written side by side: the mesh takes a limited number of writes at a time, the application's among them. */
const WRITES_MAX = 64;

const EXCHANGE = "queue/exchange/";
const BINDING = "queue/binding/";

export interface ExchangeDefinition {
  readonly kind: ExchangeKind;
  readonly alternate: string | undefined;
}

const exchangeSchema = z.object({
  kind: z.enum(["direct", "topic", "fanout", "headers", "hash"]),
  alternate: z.string().max(64).nullable(),
});
const bindingSchema: z.ZodType<Binding> = z.object({
  queue: nameSchema,
  key: z.string().max(255),
  headers: z.record(z.string().max(128), z.string().max(BOUND_VALUE_MAX)),
  match: z.enum(["all", "any"]),
});

/**
 * Exchanges and their bindings as all members share them: one entry each, so that two who bind at once do not
 * overwrite each other. What another member wrote and is not as it must be counts as absent.
 */
export class Exchanges {
  readonly #shared: Mesh["state"]["shared"];
  readonly #definitions = new Map<string, ExchangeDefinition>();
  readonly #bindings = new Map<string, Map<string, Binding>>();
  /** Made with the first message, and kept as the bindings are. */
  readonly #tables = new Map<string, RoutingTable>();
  readonly #writes = new Gate(WRITES_MAX);
  readonly #unwatch: () => void;
  #count = 0;
  /** New ones on their way to disk. */
  #binding = 0;

  constructor(mesh: Mesh) {
    this.#shared = mesh.state.shared;
    for (const { key, value } of this.#shared.entries({ prefix: "queue/" })) this.#onEntry(key, value);
    this.#unwatch = this.#shared.watch({ prefix: "queue/" }, ({ key, value }) => this.#onEntry(key, value));
  }

  stop(): void {
    this.#unwatch();
  }

  #onEntry(key: string, value: unknown): void {
    if (key.startsWith(EXCHANGE)) {
      const name = key.slice(EXCHANGE.length);
      this.#tables.delete(name);
      const parsed = exchangeSchema.safeParse(value);
      if (!parsed.success) return void this.#definitions.delete(name);
      const { kind, alternate } = parsed.data;
      this.#definitions.set(name, { kind, alternate: alternate ?? undefined });
    } else if (key.startsWith(BINDING)) {
      const [name = "", id = ""] = key.slice(BINDING.length).split("/");
      this.#setBinding(name, id, bindingSchema.safeParse(value).data);
    }
  }

  #setBinding(name: string, id: string, binding: Binding | undefined): void {
    const table = this.#tables.get(name);
    let bindings = this.#bindings.get(name);
    const before = bindings?.get(id);
    if (before !== undefined) {
      this.#count -= 1;
      bindings?.delete(id);
      table?.delete(before);
    }
    if (bindings?.size === 0) this.#bindings.delete(name);
    if (binding === undefined || this.#count >= BINDINGS_MAX) return;
    bindings ??= new Map();
    this.#bindings.set(name, bindings);
    bindings.set(id, binding);
    table?.add(binding);
    this.#count += 1;
  }

  get(name: string): ExchangeDefinition | undefined {
    return this.#definitions.get(name);
  }

  names(): readonly string[] {
    return [...this.#definitions.keys()].toSorted();
  }

  bindingsOf(name: string): readonly Binding[] {
    return [...(this.#bindings.get(name)?.values() ?? [])];
  }

  #tableOf(name: string, kind: ExchangeKind): RoutingTable {
    let table = this.#tables.get(name);
    if (table === undefined) this.#tables.set(name, (table = new RoutingTable(kind, this.bindingsOf(name))));
    return table;
  }

  async declare(name: string, { kind, alternate }: ExchangeDefinition): Promise<void> {
    await this.#shared.set(EXCHANGE + name, { kind, alternate: alternate ?? null });
  }

  async delete(name: string): Promise<void> {
    const ids = [...(this.#bindings.get(name)?.keys() ?? [])];
    await this.#remove(ids.map((id) => `${BINDING}${name}/${id}`));
    await this.#shared.delete(EXCHANGE + name);
  }

  /** @throws QueueError `LIMIT_REACHED`. */
  async bind(name: string, binding: Binding): Promise<void> {
    const key = keyOf(name, binding);
    const added = this.#shared.get(key) === undefined ? 1 : 0;
    if (added > 0 && this.#count + this.#binding >= BINDINGS_MAX) {
      throw new QueueError("LIMIT_REACHED", `there are ${BINDINGS_MAX} bindings already, of all exchanges`);
    }
    this.#binding += added;
    try {
      const value = { ...binding, headers: { ...binding.headers } };
      await this.#writes.pass(() => this.#shared.set(key, value));
    } finally {
      this.#binding -= added;
    }
  }

  async unbind(name: string, binding: Binding): Promise<boolean> {
    const key = keyOf(name, binding);
    return await this.#writes.pass(() => this.#shared.delete(key));
  }

  /** The queue was deleted: no exchange leads there any more. */
  async unbindAll(queue: string): Promise<void> {
    const found = [...this.#bindings].flatMap(([name, bindings]) =>
      [...bindings].flatMap(([id, one]) => (one.queue === queue ? [`${BINDING}${name}/${id}`] : [])),
    );
    await this.#remove(found);
  }

  async #remove(keys: readonly string[]): Promise<void> {
    await Promise.all(keys.map((key) => this.#writes.pass(() => this.#shared.delete(key))));
  }

  /** The queues for a message; where there is none, those of the alternate exchange. */
  route(name: string, message: Routed): readonly string[] {
    const seen = new Set<string>();
    for (let at: string | undefined = name; at !== undefined && seen.size < ALTERNATES_MAX;) {
      const definition = this.#definitions.get(at);
      if (definition === undefined || seen.has(at)) return [];
      seen.add(at);
      const queues = this.#tableOf(at, definition.kind).route(message);
      if (queues.length > 0) return queues;
      at = definition.alternate;
    }
    return [];
  }
}

/** The same binding has the same key on every node: to bind twice is to bind once. */
function keyOf(name: string, { queue, key, headers, match }: Binding): string {
  const sorted = Object.entries(headers).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return `${BINDING}${name}/${hash("sha256", pack([queue, key, sorted, match]), "hex").slice(0, 32)}`;
}
