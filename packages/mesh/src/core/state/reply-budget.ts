import type { HeadsRange } from "./messages.ts";

/** What may still be sent in answer to one message. */
export class ReplyBudget {
  #left: number;
  /** Bytes. */
  spent = 0;
  isSpent = false;

  constructor(bytes: number) {
    this.#left = bytes;
  }

  spend(bytes: number): boolean {
    if (this.#left < bytes) this.isSpent = true;
    if (this.isSpent) return false;
    this.#left -= bytes;
    this.spent += bytes;
    return true;
  }
}

/** Whether a list of this range would have named `id`. */
export function isWithin(id: string, { after, upTo }: HeadsRange): boolean {
  return id > after && (upTo === undefined || id <= upTo);
}

/** Cuts a list that is ordered by `idOf` into ranges of at most `countMax`; one empty range for an empty list. */
export function inRanges<Head>(
  bucket: number,
  heads: readonly Head[],
  countMax: number,
  idOf: (head: Head) => string,
): (HeadsRange & { readonly heads: readonly Head[] })[] {
  const ranges: (HeadsRange & { readonly heads: readonly Head[] })[] = [];
  let after = "";
  let from = 0;
  do {
    const part = heads.slice(from, from + countMax);
    from += countMax;
    const last = part.at(-1);
    const upTo = from < heads.length && last !== undefined ? idOf(last) : undefined;
    ranges.push({ bucket, after, upTo, heads: part });
    after = upTo ?? "";
  } while (from < heads.length);
  return ranges;
}
