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

  delete(pattern: string, queue: string): void {
    const words = wordsOf(pattern);
    const path = [this.#root];
    for (const word of words) {
      const next = path.at(-1)?.next.get(word);
      if (next === undefined) return;
      path.push(next);
    }
    removeOne(path.at(-1)?.queues ?? [], queue);
    for (let at = words.length; at > 0; at -= 1) {
      const last = path[at];
      if (last === undefined || last.queues.length + last.next.size > 0) return;
      path[at - 1]?.next.delete(words[at - 1] ?? "");
    }
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

/** The bindings of one exchange, arranged so that a message costs little however many there are, and so does one more or less. */
export class RoutingTable {
  readonly #kind: ExchangeKind;
  readonly #bindings = new Set<Binding>();
  readonly #topics = new Topics();
  readonly #byKey = new Map<string, string[]>();
  /** How many bindings lead to each. */
  readonly #counts = new Map<string, number>();
  /** Their names in order, made when they are wanted. */
  #queues: readonly string[] | undefined;

  constructor(kind: ExchangeKind, bindings: readonly Binding[]) {
    this.#kind = kind;
    for (const binding of bindings) this.add(binding);
  }

  add(binding: Binding): void {
    const { key, queue } = binding;
    this.#bindings.add(binding);
    this.#count(queue, 1);
    if (this.#kind === "topic") this.#topics.add(key, queue);
    else if (this.#kind === "direct") {
      const queues = this.#byKey.get(key);
      if (queues === undefined) this.#byKey.set(key, [queue]);
      else queues.push(queue);
    }
  }

  delete(binding: Binding): void {
    if (!this.#bindings.delete(binding)) return;
    const { key, queue } = binding;
    this.#count(queue, -1);
    if (this.#kind === "topic") this.#topics.delete(key, queue);
    else if (this.#kind === "direct") {
      const queues = this.#byKey.get(key) ?? [];
      removeOne(queues, queue);
      if (queues.length === 0) this.#byKey.delete(key);
    }
  }

  #count(queue: string, change: 1 | -1): void {
    const count = (this.#counts.get(queue) ?? 0) + change;
    if (count === 0) this.#counts.delete(queue);
    else this.#counts.set(queue, count);
    if (count === 0 || count === change) this.#queues = undefined;
  }

  #names(): readonly string[] {
    return (this.#queues ??= namesOf([...this.#counts.keys()]));
  }

  /** The queues that get the message, each once, in order of their names. */
  route(message: Routed): readonly string[] {
    switch (this.#kind) {
      case "fanout":
        return this.#names();
      case "hash":
        return rendezvousOrder(message.key, this.#names()).slice(0, 1);
      case "direct":
        return namesOf(this.#byKey.get(message.key) ?? []);
      case "topic":
        return namesOf(this.#topics.match(message.key));
      case "headers":
        return namesOf([...this.#bindings].flatMap((one) => (hasHeaders(one, message) ? [one.queue] : [])));
    }
  }
}

function namesOf(queues: readonly string[]): readonly string[] {
  return [...new Set(queues)].toSorted();
}

function removeOne(queues: string[], queue: string): void {
  const at = queues.indexOf(queue);
  if (at >= 0) queues.splice(at, 1);
}
