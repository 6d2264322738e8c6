import { TARGET_DEPTH_MAX, TARGET_LENGTH_MAX } from "./limits.ts";

/** What is known of a member that a target can ask for. */
export interface Facts {
  readonly peerId: string;
  readonly name: string;
  readonly cloud: string;
  readonly tags: Readonly<Record<string, string>>;
}

/** A parsed target. `has`: the tag is there, whatever its value. */
export type Target =
  | { readonly type: "all" }
  | { readonly type: "is"; readonly field: Field; readonly value: string }
  | { readonly type: "tag"; readonly key: string; readonly value: string }
  | { readonly type: "has"; readonly key: string }
  | { readonly type: "not"; readonly of: Target }
  | { readonly type: "and" | "or"; readonly of: readonly Target[] };

/** Facts that are no tags. A tag of such a name is written in quotes. */
type Field = "peer" | "name" | "cloud";

const FIELDS: ReadonlySet<string> = new Set(["peer", "name", "cloud"]);
const WORD = /[A-Za-z0-9_.:/-]+/y;
const WORD_ONLY = /^[A-Za-z0-9_.:/-]+$/;

/** A target that does not parse. `at` counts characters from 0. */
export class TargetError extends Error {
  override readonly name: string = "TargetError";
  readonly at: number;

  constructor(reason: string, at: number) {
    super(`target, character ${at + 1}: ${reason}`);
    this.at = at;
  }
}

/** Parses `role=web & (zone=a | zone=b) & !draining`. The grammar stands in README.md. Throws {@link TargetError}. */
export function parseTarget(text: string): Target {
  if (text.length > TARGET_LENGTH_MAX)
    throw new TargetError(`longer than ${TARGET_LENGTH_MAX}`, TARGET_LENGTH_MAX);
  const parser = new Parser(text);
  const target = parser.either(0);
  parser.end();
  return target;
}

class Parser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  end(): void {
    this.#space();
    if (this.#at < this.#text.length) throw this.#error("expected &, | or the end");
  }

  either(depth: number): Target {
    const of = [this.#both(depth)];
    while (this.#take("|")) of.push(this.#both(depth));
    return of.length === 1 ? (of[0] as Target) : { type: "or", of };
  }

  #both(depth: number): Target {
    const of = [this.#one(depth)];
    while (this.#take("&")) of.push(this.#one(depth));
    return of.length === 1 ? (of[0] as Target) : { type: "and", of };
  }

  #one(depth: number): Target {
    if (depth > TARGET_DEPTH_MAX) throw this.#error(`nested deeper than ${TARGET_DEPTH_MAX}`);
    if (this.#take("!")) return { type: "not", of: this.#one(depth + 1) };
    if (this.#take("(")) {
      const inner = this.either(depth + 1);
      if (!this.#take(")")) throw this.#error("expected )");
      return inner;
    }
    return this.#term();
  }

  #term(): Target {
    this.#space();
    const isQuoted = this.#text[this.#at] === '"';
    const key = this.#word("expected a name, !, ( or all");
    const isField = !isQuoted && FIELDS.has(key);
    if (this.#take("=")) {
      const value = this.#word("expected a value");
      return isField ? { type: "is", field: key as Field, value } : { type: "tag", key, value };
    }
    if (isField) throw this.#error(`expected = after ${key}`);
    return !isQuoted && key === "all" ? { type: "all" } : { type: "has", key };
  }

  #word(expected: string): string {
    this.#space();
    if (this.#text[this.#at] === '"') return this.#quoted();
    WORD.lastIndex = this.#at;
    const [word] = WORD.exec(this.#text) ?? [];
    if (word === undefined) throw this.#error(expected);
    this.#at += word.length;
    return word;
  }

  /** `\` takes the next character as it is. */
  #quoted(): string {
    const from = this.#at;
    let word = "";
    for (this.#at += 1; this.#at < this.#text.length; this.#at += 1) {
      const letter = this.#text[this.#at];
      if (letter === '"') {
        this.#at += 1;
        return word;
      }
      if (letter === "\\") this.#at += 1;
      word += this.#text[this.#at] ?? "";
    }
    throw new TargetError("the quote does not end", from);
  }

  #take(sign: string): boolean {
    this.#space();
    if (this.#text[this.#at] !== sign) return false;
    this.#at += 1;
    return true;
  }

  #space(): void {
    while (this.#text[this.#at] === " ") this.#at += 1;
  }

  #error(reason: string): TargetError {
    return new TargetError(reason, this.#at);
  }
}

/** The text that parses to this target. */
export function formatTarget(target: Target): string {
  switch (target.type) {
    case "all":
      return "all";
    case "is":
      return `${target.field}=${quote(target.value)}`;
    case "tag":
      return `${quoteKey(target.key)}=${quote(target.value)}`;
    case "has":
      return quoteKey(target.key);
    case "not":
      return `!${enclose(target.of)}`;
    case "and":
    case "or":
      return target.of.map(enclose).join(target.type === "and" ? " & " : " | ");
  }
}

function enclose(target: Target): string {
  const text = formatTarget(target);
  return target.type === "and" || target.type === "or" ? `(${text})` : text;
}

function quoteKey(key: string): string {
  return FIELDS.has(key) || key === "all" ? `"${key}"` : quote(key);
}

function quote(word: string): string {
  return WORD_ONLY.test(word) ? word : `"${word.replaceAll(/["\\]/g, (letter) => `\\${letter}`)}"`;
}

/** Whether a member is meant. */
export function matches(target: Target, facts: Facts): boolean {
  switch (target.type) {
    case "all":
      return true;
    case "is":
      return (target.field === "peer" ? facts.peerId : facts[target.field]) === target.value;
    case "tag":
      return Object.hasOwn(facts.tags, target.key) && facts.tags[target.key] === target.value;
    case "has":
      return Object.hasOwn(facts.tags, target.key);
    case "not":
      return !matches(target.of, facts);
    case "and":
      return target.of.every((one) => matches(one, facts));
    case "or":
      return target.of.some((one) => matches(one, facts));
  }
}
