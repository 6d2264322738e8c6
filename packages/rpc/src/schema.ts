import { textOf } from "@klatsch/kit";

import { fault } from "./core/messages.ts";
import { RpcError, rpcError } from "./errors.ts";

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
 * the schema itself throws.
 */
export function parse(schema: Schema, value: unknown, code: ParseCode, what: string): unknown {
  let result: SchemaResult<unknown> | Promise<SchemaResult<unknown>>;
  try {
    result = schema["~standard"].validate(value);
  } catch (error) {
    throw thrown(error, code, what);
  }
  if (!(result instanceof Promise)) return unwrap(result, code, what);
  return result.then(
    (late) => unwrap(late, code, what),
    (error: unknown) => {
      throw thrown(error, code, what);
    },
  );
}

/** Where an output is checked, something has run. */
function thrown(error: unknown, code: ParseCode, what: string): RpcError {
  const outcome = code === "INVALID_OUTPUT" ? "unknown" : "none";
  return new RpcError(fault(code, `${what}: ${textOf(error)}`, outcome), error);
}

function unwrap(result: SchemaResult<unknown>, code: ParseCode, what: string): unknown {
  if (result.issues === undefined) return result.value;
  const [issue] = result.issues;
  const path = (issue?.path ?? []).map((part) => String(typeof part === "object" ? part.key : part));
  throw rpcError(code, `${[what, ...path].join(".")}: ${issue?.message ?? "invalid"}`);
}
