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

/** One word of topic patterns, and those that follow it. */
class Word {
  readonly next = new Map<string, Word>();
  /** `#`: any number of words stay here. */
  readonly repeats: boolean;
  readonly queues: string[] = [];

  constructor(repeats: boolean) {
    this.repeats = repeats;
  }

  child(word: string): Word {
    let child = this.next.get(word);
    if (child === undefined) this.next.set(word, (child = new Word(word === "#")));
    return child;
  }
}

/** All patterns of an exchange as one tree. A message takes time by its own length and what could match, at most by all there is. */
class Topics {
  readonly #root = new Word(false);

  add(pattern: string, queue: string): void {
    let at = this.#root;
    for (const word of wordsOf(pattern)) at = at.child(word);
    at.queues.push(queue);
  }

  match(key: string): readonly string[] {
    let reached = withRepeats([this.#root]);
    for (const word of wordsOf(key)) {
      const after: Word[] = [];
      for (const at of reached) {
        if (at.repeats) after.push(at);
        const [named, any] = [at.next.get(word), at.next.get("*")];
        // A word of a key is never a wildcard.
        if (named !== undefined && word !== "*" && word !== "#") after.push(named);
        if (any !== undefined) after.push(any);
      }
      reached = withRepeats(after);
    }
    return [...reached].flatMap(({ queues }) => queues);
  }
}

function wordsOf(text: string): readonly string[] {
  return text === "" ? [] : text.split(".");
}

/** With what is reached without a further word. */
function withRepeats(words: readonly Word[]): ReadonlySet<Word> {
  const reached = new Set(words);
  for (const at of reached) {
    const repeating = at.next.get("#");
    if (repeating !== undefined) reached.add(repeating);
  }
  return reached;
}

function hasHeaders({ headers: wanted, match }: Binding, { headers }: Routed): boolean {
  const has = ([name, value]: readonly [string, string]): boolean =>
    Object.hasOwn(headers, name) && headers[name] === value;
  return match === "all" ? Object.entries(wanted).every(has) : Object.entries(wanted).some(has);
}

/** The bindings of one exchange, arranged so that a message costs little however many there are. */
export class RoutingTable {
  readonly #kind: ExchangeKind;
  readonly #bindings: readonly Binding[];
  readonly #topics = new Topics();
  readonly #byKey = new Map<string, string[]>();
  readonly #queues: readonly string[];

  constructor(kind: ExchangeKind, bindings: readonly Binding[]) {
    this.#kind = kind;
    this.#bindings = bindings;
    this.#queues = namesOf(bindings.map(({ queue }) => queue));
    for (const { key, queue } of bindings) {
      if (kind === "topic") this.#topics.add(key, queue);
      else if (kind === "direct") {
        const queues = this.#byKey.get(key);
        if (queues === undefined) this.#byKey.set(key, [queue]);
        else queues.push(queue);
      }
    }
  }

  /** The queues that get the message, each once, in order of their names. */
  route(message: Routed): readonly string[] {
    switch (this.#kind) {
      case "fanout":
        return this.#queues;
      case "hash":
        return rendezvousOrder(message.key, this.#queues).slice(0, 1);
      case "direct":
        return namesOf(this.#byKey.get(message.key) ?? []);
      case "topic":
        return namesOf(this.#topics.match(message.key));
      case "headers":
        return namesOf(this.#bindings.filter((one) => hasHeaders(one, message)).map(({ queue }) => queue));
    }
  }
}

function namesOf(queues: readonly string[]): readonly string[] {
  return [...new Set(queues)].toSorted();
}
