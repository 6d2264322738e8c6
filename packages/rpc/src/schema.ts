import { textOf } from "@klatsch/kit";
import type { Outcome } from "@klatsch/kit";

import { fault } from "./core/messages.ts";
import { RpcError } from "./errors.ts";

/** Standard Schema 1: what zod, valibot, arktype and others have in common. See https://standardschema.dev. */
export interface Schema<Input = unknown, Output = Input> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}

/** What a schema says of a value. */
export type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly SchemaIssue[] };

/** One thing that is wrong with a value, and where. */
export interface SchemaIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** What may be given where a schema parses. */
export type InputOf<S extends Schema> = NonNullable<S["~standard"]["types"]>["input"];
/** What comes out of a schema. */
export type OutputOf<S extends Schema> = NonNullable<S["~standard"]["types"]>["output"];

type ParseCode = "INVALID_INPUT" | "INVALID_OUTPUT" | "INVALID_OPTIONS";

/**
 * The parsed value, at once where the schema is synchronous. Throws or rejects with `code`, naming the field; so too where
 * the schema itself throws, or gives what is no result.
 */
export function parse(schema: Schema, value: unknown, code: ParseCode, what: string): unknown {
  let verdict: Verdict;
  try {
    const result: unknown = schema["~standard"].validate(value);
    if (isThenable(result)) return parseLate(result, code, what);
    verdict = verdictOf(result, what);
  } catch (error) {
    throw failed(error, code, what);
  }
  return unwrap(verdict, code);
}

async function parseLate(result: PromiseLike<unknown>, code: ParseCode, what: string): Promise<unknown> {
  let verdict: Verdict;
  try {
    verdict = verdictOf(await result, what);
  } catch (error) {
    throw failed(error, code, what);
  }
  return unwrap(verdict, code);
}

type Verdict = { readonly value: unknown } | { readonly issue: string };

/** Any library's promise, of any realm: taken for a result, it would say that all is well. */
export function isThenable(result: unknown): result is PromiseLike<unknown> {
  return typeof (result as Partial<PromiseLike<unknown>> | null | undefined)?.then === "function";
}

/** Throws at what is no result. */
function verdictOf(result: unknown, what: string): Verdict {
  if (typeof result !== "object" || result === null) throw new TypeError("its schema gives no result");
  const { issues, value } = result as { issues?: readonly SchemaIssue[]; value?: unknown };
  if (issues === undefined) return { value };
  const [issue] = issues;
  const path = (issue?.path ?? []).map((part) => String(typeof part === "object" ? part.key : part));
  return { issue: `${[what, ...path].join(".")}: ${issue?.message ?? "invalid"}` };
}

function unwrap(verdict: Verdict, code: ParseCode): unknown {
  if ("issue" in verdict) throw new RpcError(fault(code, verdict.issue, outcomeOf(code)));
  return verdict.value;
}

function failed(error: unknown, code: ParseCode, what: string): RpcError {
  return new RpcError(fault(code, `${what}: ${textOf(error)}`, outcomeOf(code)), error);
}

/** Where an output is checked, something has run. */
function outcomeOf(code: ParseCode): Outcome {
  return code === "INVALID_OUTPUT" ? "unknown" : "none";
}
