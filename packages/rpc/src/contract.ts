import { excerpt } from "@klatsch/kit";
import type { MemberCertificate } from "@klatsch/mesh";

import { NAME_LENGTH_MAX } from "./core/limits.ts";
import { rpcError } from "./errors.ts";
import { checkKnown, readable } from "./known.ts";
import type { InputOf, OutputOf, Schema } from "./schema.ts";

/** Which of a method's two values are streams of items. */
export type Streaming = "none" | "output" | "input" | "both";

/** Traffic classes of calls, most urgent first. */
export type CallClass = "high" | "normal" | "bulk";

/** Who calls, as far as it is proven: the peer at the other end of the link, and what is certified of it. */
export interface Caller {
  readonly peerId: string;
  /** Whether this node itself. */
  readonly self: boolean;
  /** Signed by the mesh's root or an admin; `undefined` in an open mesh. */
  readonly certificate: MemberCertificate | undefined;
  /** Whether its certificate grants the capability; always `true` in an open mesh. */
  can(capability: string): boolean;
}

/** What has to be certified of a caller; all that is given. In an open mesh nobody's cloud or tags are. */
export interface Certified {
  /** See `MeshAdmission.can`. */
  readonly capability?: string | undefined;
  readonly cloud?: string | undefined;
  readonly tags?: Readonly<Record<string, string>> | undefined;
}

/**
 * Who may call a method; there is no default. `members`: whoever the mesh admits. `self`: this node only.
 * A list: these peer ids. {@link Certified}: who has it in its certificate; what members say of themselves never
 * counts. A function decides by itself; one that throws, or answers later, denies.
 */
export type Access = "members" | "self" | readonly string[] | Certified | ((caller: Caller) => boolean);

/** What a method is made of. */
export interface MethodInit<In extends Schema, Out extends Schema, S extends Streaming> {
  /** Of the input, or of each item of an input stream. */
  readonly input: In;
  /** Of the output, or of each item of an output stream. */
  readonly output: Out;
  readonly access: Access;
  /** Default `none`. */
  readonly stream?: S | undefined;
  /** Running it twice does no harm: it is called again by itself when a link breaks. Default `false`. */
  readonly idempotent?: boolean | undefined;
  /** Default `normal`. */
  readonly class?: CallClass | undefined;
  /** Handlers of this method that run at once on one node; more are refused with `OVERLOADED`. Default 4,096. */
  readonly concurrencyMax?: number | undefined;
  /** How its callers guard against a peer that fails or is slow. Default: not at all. */
  readonly guard?: CallGuard | undefined;
}

/** How callers of a method guard themselves, each node for each peer on its own. What is left out is off. */
export interface CallGuard {
  /**
   * After so many failures in a row (`UNAVAILABLE`, `DEADLINE_EXCEEDED`, `OVERLOADED`) calls fail at once with
   * `UNAVAILABLE`, until one that is let through after `resetMs` succeeds.
   */
  readonly breaker?: { readonly failures: number; readonly resetMs: number } | undefined;
  /** Calls under way at once, and calls that may wait for their turn; more are refused with `OVERLOADED`. */
  readonly bulkhead?: { readonly concurrent: number; readonly queue: number } | undefined;
  /**
   * With `Rpc.any`, of `idempotent` methods: a peer that has not answered after `afterMs` is not waited for alone,
   * another is asked too, up to `max` (default 2) in all. The first answer counts, the others are cancelled.
   */
  readonly hedge?: { readonly afterMs: number; readonly max?: number | undefined } | undefined;
}

/** A method as both sides know it. */
export interface Method<
  In extends Schema = Schema,
  Out extends Schema = Schema,
  S extends Streaming = Streaming,
> {
  readonly input: In;
  readonly output: Out;
  readonly access: Access;
  readonly stream: S;
  readonly idempotent: boolean;
  readonly class: CallClass;
  readonly concurrencyMax: number;
  readonly guard: CallGuard;
}

/** Methods by name. */
export type Methods = Readonly<Record<string, Method>>;

/** What a server offers and a client calls; both have the same one. */
export interface Contract<M extends Methods = Methods> {
  /** Goes before the method's name on the wire: `uptime.get`. */
  readonly name: string | undefined;
  readonly methods: M;
}

/** Options of one call. */
export interface CallOptions {
  /** How long to wait for the end, in milliseconds. Default 10 s, and none for streams; never beyond the calling handler's own. */
  readonly deadlineMs?: number | undefined;
  /** Firing it cancels the call here and in the remote handler. */
  readonly signal?: AbortSignal | undefined;
  /** Makes a repeated call return the first one's result, for as long as the server keeps it (at most 5 min). */
  readonly idempotencyKey?: string | undefined;
}

/** What a handler is told beside its input. */
export interface CallContext {
  readonly method: string;
  readonly caller: Caller;
  /** Fires when nobody waits any more: cancelled, out of time, or the caller's link is lost. */
  readonly signal: AbortSignal;
  readonly idempotencyKey: string | undefined;
  /** Milliseconds until the caller's deadline; `undefined` if there is none. */
  remainingMs(): number | undefined;
}

/** Items that go into a stream. */
export type Source<T> = Iterable<T> | AsyncIterable<T>;
/** What a handler returns: now or later. */
export type Later<T> = T | Promise<T>;

/** One method as its caller sees it. */
export type ClientMethod<T> =
  T extends Method<infer I, infer O, infer S>
    ? {
        none: undefined extends InputOf<I>
          ? (input?: InputOf<I>, options?: CallOptions) => Promise<OutputOf<O>>
          : (input: InputOf<I>, options?: CallOptions) => Promise<OutputOf<O>>;
        output: (input: InputOf<I>, options?: CallOptions) => AsyncIterable<OutputOf<O>>;
        input: (input: Source<InputOf<I>>, options?: CallOptions) => Promise<OutputOf<O>>;
        both: (input: Source<InputOf<I>>, options?: CallOptions) => AsyncIterable<OutputOf<O>>;
      }[S]
    : never;

/** One method as its server writes it. */
export type Handler<T> =
  T extends Method<infer I, infer O, infer S>
    ? {
        none: (input: OutputOf<I>, context: CallContext) => Later<InputOf<O>>;
        output: (input: OutputOf<I>, context: CallContext) => Source<InputOf<O>>;
        input: (input: AsyncIterable<OutputOf<I>>, context: CallContext) => Later<InputOf<O>>;
        both: (input: AsyncIterable<OutputOf<I>>, context: CallContext) => Source<InputOf<O>>;
      }[S]
    : never;

/** What {@link Rpc.peer} returns. */
export type Client<M extends Methods> = { readonly [Name in keyof M]: ClientMethod<M[Name]> };
/** What {@link Rpc.serve} takes. */
export type Implementation<M extends Methods> = { readonly [Name in keyof M]: Handler<M[Name]> };

const CLASSES: readonly CallClass[] = ["high", "normal", "bulk"];
const STREAMS: readonly Streaming[] = ["none", "output", "input", "both"];

const METHOD_OPTIONS: readonly (keyof Method)[] = [
  "input",
  "output",
  "access",
  "stream",
  "idempotent",
  "class",
  "concurrencyMax",
  "guard",
];

const GUARD_OPTIONS: readonly (keyof CallGuard)[] = ["breaker", "bulkhead", "hedge"];
const NAMED = /^[A-Za-z][A-Za-z0-9_.-]*$/;

/** Defines a method. @throws RpcError `INVALID_OPTIONS`, above all without a stated `access`. */
export function method<In extends Schema, Out extends Schema, S extends Streaming = "none">(
  init: MethodInit<In, Out, S>,
): Method<In, Out, NoInfer<S>> {
  return readable("method", () => made(init));
}

function made<In extends Schema, Out extends Schema, S extends Streaming>(
  init: MethodInit<In, Out, S>,
): Method<In, Out, S> {
  check("method", isObject(init), "takes an object");
  checkKnown(init, METHOD_OPTIONS);
  const { input, output, access, concurrencyMax = 4_096, idempotent = false, guard = {} } = init;
  const one = {
    input,
    output,
    access,
    stream: init.stream ?? ("none" as S),
    idempotent,
    class: init.class ?? "normal",
    concurrencyMax,
    guard,
  };
  checkMethod("", one);
  return Object.freeze(one);
}

/** Puts methods under one name. @throws RpcError `INVALID_OPTIONS`. */
export function contract<M extends Methods>(init: {
  readonly name?: string | undefined;
  readonly methods: M;
}): Contract<M> {
  return readable("contract", () => {
    check("contract", isObject(init), "takes an object");
    check("methods", isObject(init.methods), "must be methods by name");
    const one = Object.freeze({ name: init.name, methods: Object.freeze({ ...init.methods }) });
    checkParts(one);
    CHECKED.add(one);
    return one;
  });
}

/** Made by {@link contract}, and as they were. */
const CHECKED = new WeakSet<Contract>();

/** One that was made by hand is looked at each time. @throws RpcError `INVALID_OPTIONS`. */
export function checkContract(contract: Contract | null | undefined): void {
  if (contract !== null && contract !== undefined && CHECKED.has(contract)) return;
  readable("contract", () => {
    check("contract", isObject(contract?.methods), "make it with contract()");
    checkParts(contract as Contract);
  });
}

function checkParts({ name, methods }: Contract): void {
  const isName = (text: unknown): boolean => typeof text === "string" && NAMED.test(text);
  const isRight = name === undefined || (isName(name) && name.length <= NAME_LENGTH_MAX / 2);
  check("name", isRight, "is no valid name");
  for (const [key, one] of Object.entries(methods)) {
    const field = `methods.${excerpt(key)}`;
    check(field, isName(key) && key.length < NAME_LENGTH_MAX / 2, "is no valid name");
    check(field, key !== "then", "is no name for a method: who awaits the client would call it");
    check(field, isObject(one), "make it with method()");
    checkMethod(`${field}.`, one);
  }
}

/** What is missing is seen here, not when a peer calls. `prefix`: of fields in messages. */
function checkMethod(prefix: string, one: Method): void {
  const rule = (field: string, isRight: boolean, text: string): void =>
    check(`${prefix}${field}`, isRight, text);
  rule("input", isSchema(one.input), "must be a Standard Schema");
  rule("output", isSchema(one.output), "must be a Standard Schema");
  rule(
    "access",
    isAccess(one.access),
    "must say who may call: members, self, a list of peer ids, what is certified, or a function",
  );
  rule("stream", STREAMS.includes(one.stream), `must be one of ${STREAMS.join(", ")}`);
  rule("class", CLASSES.includes(one.class), `must be one of ${CLASSES.join(", ")}`);
  rule("idempotent", typeof one.idempotent === "boolean", "must be true or false");
  rule("concurrencyMax", isWhole(one.concurrencyMax, 1), "must be a whole number from 1");
  rule("guard", isObject(one.guard), "must be an object");
  checkGuard(`${prefix}guard.`, one.guard, one.idempotent);
}

function check(field: string, isRight: boolean, rule: string): void {
  if (!isRight) throw rpcError("INVALID_OPTIONS", `${field}: ${rule}`);
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null;
}

function isWhole(value: unknown, min: number): boolean {
  return Number.isSafeInteger(value) && Number(value) >= min;
}

function checkGuard(prefix: string, guard: CallGuard, idempotent: boolean): void {
  checkKnown(guard, GUARD_OPTIONS, prefix);
  const { breaker, bulkhead, hedge } = guard;
  const rule = "has whole numbers only; see CallGuard";
  const isBreaker = breaker === undefined || (isWhole(breaker?.failures, 1) && isWhole(breaker?.resetMs, 1));
  check(`${prefix}breaker`, isBreaker, rule);
  const isBulkhead =
    bulkhead === undefined || (isWhole(bulkhead?.concurrent, 1) && isWhole(bulkhead?.queue, 0));
  check(`${prefix}bulkhead`, isBulkhead, rule);
  if (hedge === undefined) return;
  check(`${prefix}hedge`, isWhole(hedge?.afterMs, 0) && isWhole(hedge?.max ?? 2, 2), rule);
  check(`${prefix}hedge`, idempotent, "may run a method twice, so it has to be idempotent");
}

/** Whether it is a Standard Schema. */
export function isSchema(value: unknown): boolean {
  const schema = value as Partial<Schema> | null | undefined;
  return typeof schema?.["~standard"]?.validate === "function";
}

/** Whether it says who is admitted: a misspelt rule must not be taken for one. */
export function isAccess(access: unknown): access is Access {
  if (access === "members" || access === "self" || typeof access === "function") return true;
  if (typeof access !== "object" || access === null) return false;
  if (Array.isArray(access)) return access.every((peer) => typeof peer === "string");
  const entries = Object.entries(access).filter(([, value]) => value !== undefined);
  return entries.length > 0 && entries.every(([name, value]) => isCertifiedField(name, value));
}

function isCertifiedField(name: string, value: unknown): boolean {
  if (name === "capability" || name === "cloud") return typeof value === "string";
  const isTags = name === "tags" && typeof value === "object" && value !== null;
  return isTags && Object.values(value).every((one) => typeof one === "string");
}

/** A method's name on the wire. */
export function wireName(name: string | undefined, key: string): string {
  return name === undefined ? key : `${name}.${key}`;
}
