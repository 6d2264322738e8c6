import { REDUCED_ITEMS_MAX } from "./limits.ts";

/**
 * Folds answers on their way up the tree. `merge` must give the same for any grouping and order; states
 * travel, so they are plain data.
 */
export interface Reducer {
  /** One member's answer as a state. Throws if the answer does not suit. */
  map(answer: unknown, peer: string): unknown;
  merge(a: unknown, b: unknown): unknown;
  /** The result; `state` is `undefined` if nobody answered. */
  done(state: unknown): unknown;
}

/** How to fold answers. `of`: dotted path of the field that counts; default: the answer itself. */
export type Reduce =
  | { readonly by: "count" }
  | { readonly by: "sum" | "min" | "max" | "avg" | "set" | "concat"; readonly of?: string | undefined }
  /** The `k` members with the greatest numbers. */
  | { readonly by: "top"; readonly k: number; readonly of?: string | undefined }
  /** Counts of numbers up to each bound, and of those above the last. */
  | { readonly by: "histogram"; readonly bounds: readonly number[]; readonly of?: string | undefined }
  /** A reducer registered under this name on every node. */
  | { readonly by: "own"; readonly name: string };

type Ranked = readonly [value: number, peer: string];

const numberOf = (value: unknown): number => {
  if (typeof value === "number" && Number.isFinite(value)) return value;
  throw new TypeError("the answer is no number");
};

function pathOf(value: unknown, of: string | undefined): unknown {
  if (of === undefined) return value;
  let at: unknown = value;
  for (const key of of.split(".")) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, key))
      throw new TypeError(`the answer has no ${of}`);
    at = (at as Record<string, unknown>)[key];
  }
  return at;
}

/** Folds two numbers; nothing if nobody answered. */
function numeric(of: string | undefined, fold: (a: number, b: number) => number): Reducer {
  return {
    map: (answer) => numberOf(pathOf(answer, of)),
    merge: (a, b) => fold(numberOf(a), numberOf(b)),
    done: (state) => state,
  };
}

/** Lists by key: each key once, in order of keys, so that grouping does not show. */
function keyed(
  of: string | undefined,
  keyOf: (value: unknown, peer: string) => string,
  withPeer: boolean,
): Reducer {
  return {
    map: (answer, peer) => {
      const value = pathOf(answer, of);
      return [[keyOf(value, peer), value]];
    },
    merge: (a, b) => {
      const all = new Map([...listOf(a), ...listOf(b)]);
      return [...all].sort(([x], [y]) => (x < y ? -1 : 1)).slice(0, REDUCED_ITEMS_MAX);
    },
    done: (state) => listOf(state ?? []).map(([key, value]) => (withPeer ? { peerId: key, value } : value)),
  };
}

function listOf(state: unknown): readonly (readonly [string, unknown])[] {
  const isList =
    Array.isArray(state) && state.every((one) => Array.isArray(one) && typeof one[0] === "string");
  if (!isList) throw new TypeError("no list");
  return state as [string, unknown][];
}

function numbersOf(state: unknown, length: number): readonly number[] {
  if (!Array.isArray(state) || state.length !== length) throw new TypeError("no list of numbers");
  return state.map(numberOf);
}

/** Element by element. */
function sums(length: number, a: unknown, b: unknown): readonly number[] {
  const others = numbersOf(b, length);
  return numbersOf(a, length).map((value, at) => value + (others[at] ?? 0));
}

function average(of: string | undefined): Reducer {
  return {
    map: (answer) => [numberOf(pathOf(answer, of)), 1],
    merge: (a, b) => sums(2, a, b),
    done: (state) => {
      if (state === undefined) return undefined;
      const [sum = 0, count = 1] = numbersOf(state, 2);
      return sum / count;
    },
  };
}

function top(of: string | undefined, k: number): Reducer {
  const ranked = (state: unknown): readonly Ranked[] =>
    listOf((state as Ranked[]).map(([value, peer]) => [peer, value])).map(([peer, value]) => [
      numberOf(value),
      peer,
    ]);
  return {
    map: (answer, peer) => [[numberOf(pathOf(answer, of)), peer]],
    merge: (a, b) =>
      [...ranked(a), ...ranked(b)].sort(([x, p], [y, q]) => y - x || (p < q ? -1 : 1)).slice(0, k),
    done: (state) => ranked(state ?? []).map(([value, peerId]) => ({ peerId, value })),
  };
}

function histogram(of: string | undefined, bounds: readonly number[]): Reducer {
  const length = bounds.length + 1;
  return {
    map: (answer) => {
      const value = numberOf(pathOf(answer, of));
      const at = bounds.findIndex((bound) => value <= bound);
      return Array.from({ length }, (_, no) => (no === (at < 0 ? bounds.length : at) ? 1 : 0));
    },
    merge: (a, b) => sums(length, a, b),
    done: (state) => state ?? Array.from({ length }, () => 0),
  };
}

/** The reducer that is meant; `own` are found in `named`. Throws if there is none of that name. */
export function reducerOf(reduce: Reduce, named: ReadonlyMap<string, Reducer>): Reducer {
  switch (reduce.by) {
    case "count":
      return { ...numeric(undefined, (a, b) => a + b), map: () => 1, done: (state) => state ?? 0 };
    case "sum":
      return { ...numeric(reduce.of, (a, b) => a + b), done: (state) => state ?? 0 };
    case "min":
      return numeric(reduce.of, Math.min);
    case "max":
      return numeric(reduce.of, Math.max);
    case "avg":
      return average(reduce.of);
    case "set":
      return keyed(reduce.of, (value) => JSON.stringify(value) ?? "", false);
    case "concat":
      return keyed(reduce.of, (_value, peer) => peer, true);
    case "top":
      return top(reduce.of, reduce.k);
    case "histogram":
      return histogram(reduce.of, reduce.bounds);
    case "own": {
      const own = named.get(reduce.name);
      if (own === undefined) throw new TypeError(`no reducer ${reduce.name} is registered`);
      return {
        map: (answer, peer) => noPromise(own.map(answer, peer)),
        merge: (a, b) => noPromise(own.merge(a, b)),
        done: (state) => noPromise(own.done(state)),
      };
    }
  }
}

/** Nobody waits for what a reducer gives: a promise would be the answer, or travel as nothing, and where it rejects end the process. */
function noPromise(given: unknown): unknown {
  if (typeof given !== "object" || given === null) return given;
  const { then }: { readonly then?: unknown } = given;
  if (typeof then !== "function") return given;
  const ignore = (): void => undefined;
  then.call(given, ignore, ignore);
  throw new TypeError("a reducer must give its result at once, not a promise");
}
