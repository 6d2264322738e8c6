import { rendezvousOrder } from "@klatsch/kit/core";

/** How an exchange finds the queues of a message. `hash`: one of them, always the same for the same key. */
export type ExchangeKind = "direct" | "topic" | "fanout" | "headers" | "hash";

/** One queue bound to an exchange. */
export interface Binding {
  readonly queue: string;
  /** `direct`: the routing key; `topic`: a pattern with `*` for one word and `#` for any number. */
  readonly key: string;
  /** `headers`: what the message has to have. */
  readonly headers: Readonly<Record<string, string>>;
  /** `headers`: all of them, or any one. */
  readonly match: "all" | "any";
}

/** What a message is routed by. */
export interface Routed {
  readonly key: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** Whether `key`, words between dots, fits `pattern`. Linear in both for each `#`: neither is trusted. */
export function topicMatches(pattern: string, key: string): boolean {
  const wanted = pattern === "" ? [] : pattern.split(".");
  const words = key === "" ? [] : key.split(".");
  // reach[at]: the pattern so far can end before word `at`.
  let reach = new Set([0]);
  for (const part of wanted) {
    const next = new Set<number>();
    for (const at of reach) {
      if (part === "#") for (let end = at; end <= words.length; end += 1) next.add(end);
      else if (at < words.length && (part === "*" || part === words[at])) next.add(at + 1);
      // What a # reaches, all that follow it reach too.
      if (part === "#") break;
    }
    reach = next;
    if (reach.size === 0) return false;
  }
  return reach.has(words.length);
}

function fits(kind: ExchangeKind, binding: Binding, { key, headers }: Routed): boolean {
  switch (kind) {
    case "fanout":
    case "hash":
      return true;
    case "direct":
      return binding.key === key;
    case "topic":
      return topicMatches(binding.key, key);
    case "headers": {
      const wanted = Object.entries(binding.headers);
      const has = ([name, value]: readonly [string, string]): boolean =>
        Object.hasOwn(headers, name) && headers[name] === value;
      return binding.match === "all" ? wanted.every(has) : wanted.some(has);
    }
  }
}

/** The queues that get the message, each once, in order of their names. */
export function route(kind: ExchangeKind, bindings: readonly Binding[], message: Routed): readonly string[] {
  const queues = bindings.filter((binding) => fits(kind, binding, message)).map(({ queue }) => queue);
  const once = [...new Set(queues)].toSorted();
  return kind === "hash" ? rendezvousOrder(message.key, once).slice(0, 1) : once;
}
