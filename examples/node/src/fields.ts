import { NodeError } from "./errors.ts";
import type { NodeErrorCode } from "./errors.ts";

/** Reads the fields of a value that anybody may have written. What is wrong is told by the field's name. */
export class Fields {
  readonly #values: Readonly<Record<string, unknown>>;
  readonly #where: string;
  readonly #code: NodeErrorCode;

  /** `where` stands before each field's name in messages. */
  constructor(values: unknown, where: string, code: NodeErrorCode) {
    this.#where = where;
    this.#code = code;
    if (typeof values !== "object" || values === null || Array.isArray(values)) {
      throw new NodeError(code, `${where}must be an object`);
    }
    this.#values = values as Readonly<Record<string, unknown>>;
  }

  /** Throws if there are others than these: a misspelt field must not be taken for one left out. */
  only(...known: readonly string[]): this {
    const stranger = Object.keys(this.#values).find((name) => !known.includes(name));
    if (stranger === undefined) return this;
    throw this.#wrong(stranger, `is not known; there are ${known.join(", ") || "none"}`);
  }

  text(name: string): string | undefined {
    return this.#read(name, "must be text", isText);
  }

  requiredText(name: string): string {
    const value = this.text(name);
    if (value === undefined || value === "") throw this.#wrong(name, "is required");
    return value;
  }

  texts(name: string): readonly string[] | undefined {
    return this.#read(name, "must be a list of texts", isTexts);
  }

  /** Whether it is `true`; left out means that it is not. */
  flag(name: string): boolean {
    return this.#read(name, "must be true or false", isFlag) ?? false;
  }

  /** Whatever it is; `undefined` if it was left out. */
  json(name: string): unknown {
    return this.#read(name, "", isAnything);
  }

  /** An object whose values are texts. */
  textByName(name: string): Readonly<Record<string, string>> | undefined {
    return this.#read(name, "must be an object of texts", isTextByName);
  }

  wholeNumber(name: string, min: number, max: number): number | undefined {
    const rule = `must be a whole number from ${min} to ${max}`;
    const value = this.#read(name, rule, isWholeNumber);
    if (value !== undefined && (value < min || value > max)) throw this.#wrong(name, rule);
    return value;
  }

  oneOf<Value extends string>(name: string, values: readonly Value[]): Value {
    const text = this.requiredText(name);
    const value = values.find((each) => each === text);
    if (value === undefined) throw this.#wrong(name, `must be one of ${values.join(", ")}`);
    return value;
  }

  #read<Value>(name: string, rule: string, holds: (value: unknown) => value is Value): Value | undefined {
    // What JSON gives has inherited fields too: `constructor` is none of the writer's.
    const value = Object.hasOwn(this.#values, name) ? this.#values[name] : undefined;
    if (value === undefined || holds(value)) return value;
    throw this.#wrong(name, rule);
  }

  #wrong(name: string, rule: string): NodeError {
    return new NodeError(this.#code, `${this.#where}${name}: ${rule}`);
  }
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

function isAnything(_value: unknown): _value is unknown {
  return true;
}

function isFlag(value: unknown): value is boolean {
  return typeof value === "boolean";
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every(isText);
}

function isTextByName(value: unknown): value is Readonly<Record<string, string>> {
  return (
    typeof value === "object" && value !== null && !Array.isArray(value) && Object.values(value).every(isText)
  );
}

function isWholeNumber(value: unknown): value is number {
  return Number.isSafeInteger(value);
}
