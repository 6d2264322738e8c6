import type { ListedLanes } from "./messages.ts";
import type { LaneId, Place } from "./types.ts";

/** Lanes of either kind that one answer names at most. */
export const LISTED_LANES_MAX = 1_000;

/** In order, from `after` on; behind `end`, if there is one, there are more than an answer names. */
export function listedLanes(
  served: Iterable<LaneId>,
  kept: Iterable<readonly [LaneId, number]>,
  after: Place | undefined,
): { readonly lanes: ListedLanes; readonly end: LaneId | undefined } {
  const from = after?.lane ?? "";
  const counts = new Map<LaneId, number>();
  // An heir has the messages of the lane before it, and both may be here.
  for (const [lane, count] of kept) counts.set(lane, Math.max(count, counts.get(lane) ?? 0));
  const lanes = {
    served: [...new Set(served)].filter((lane) => lane >= from).sort(),
    kept: [...counts].filter(([lane]) => lane >= from).sort(([a], [b]) => (a < b ? -1 : 1)),
  };
  const ends = [lanes.served, lanes.kept.map(([lane]) => lane)]
    .filter(({ length }) => length > LISTED_LANES_MAX)
    .map((all) => all[LISTED_LANES_MAX - 1] ?? "");
  const [end] = ends.sort();
  return { lanes, end };
}

/** Up to the lane of `last`. */
export function restricted({ served, kept }: ListedLanes, last: Place | undefined): ListedLanes {
  if (last === undefined) return { served, kept };
  return {
    served: served.filter((lane) => lane <= last.lane),
    kept: kept.filter(([lane]) => lane <= last.lane),
  };
}
