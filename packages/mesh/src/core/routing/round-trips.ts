import type { Instant } from "@klatsch/kit/core";

/** Classes: 0 is up to 0.25 ms, each next one up to twice that; the last one 4 s and above. */
export const RTT_CLASS_MAX = 14;
const CLASS_0_MS = 0.25;
/** A link's class changes once its round trip has been in another for this long, in milliseconds. */
const SETTLE_MS = 60_000;

/** The class of a round trip in milliseconds. */
function rttClassOf(roundTripMs: number): number {
  if (!(roundTripMs > CLASS_0_MS)) return 0;
  return Math.min(RTT_CLASS_MAX, Math.ceil(Math.log2(roundTripMs / CLASS_0_MS)));
}

/** The longest round trip of a class, in milliseconds. */
export function rttOfClass(rttClass: number): number {
  return CLASS_0_MS * 2 ** rttClass;
}

interface Track {
  rttClass: number;
  /** Since when the measurements are in another class; `undefined` while they are not. */
  awaySinceMs: number | undefined;
}

/** Round-trip classes of own links: few, and slow to change, since every change is told to the whole mesh. */
export class RoundTrips {
  readonly #tracks = new Map<string, Track>();

  /** A smoothed round trip was measured; the class to publish. */
  measured(peer: string, roundTripMs: number, now: Instant): number {
    const rttClass = rttClassOf(roundTripMs);
    const track = this.#tracks.get(peer);
    if (track === undefined) {
      this.#tracks.set(peer, { rttClass, awaySinceMs: undefined });
      return rttClass;
    }
    if (rttClass === track.rttClass) track.awaySinceMs = undefined;
    else {
      track.awaySinceMs ??= now.monoMs;
      if (now.monoMs - track.awaySinceMs >= SETTLE_MS) {
        track.rttClass = rttClass;
        track.awaySinceMs = undefined;
      }
    }
    return track.rttClass;
  }

  gone(peer: string): void {
    this.#tracks.delete(peer);
  }
}
