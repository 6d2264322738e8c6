import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { randomBelow } from "@klatsch/kit";
import type { Random } from "@klatsch/kit";
import { expect } from "vitest";

/** Random bytes in one of four; else good ones with some of them changed, cut or repeated. */
export function mangled(random: Random, good: readonly Uint8Array[]): Uint8Array {
  const bytes = Uint8Array.from(good[randomBelow(random, good.length)] ?? [0]);
  const kind = randomBelow(random, 4);
  if (kind === 0)
    return Uint8Array.from({ length: 1 + randomBelow(random, 300) }, () => random.uint32() & 255);
  if (kind === 1) return bytes.subarray(0, 1 + randomBelow(random, bytes.length));
  for (let changes = randomBelow(random, 4); changes >= 0; changes -= 1)
    bytes[randomBelow(random, bytes.length)] = random.uint32() & 255;
  return kind === 2 ? bytes : Uint8Array.of(...bytes, ...bytes.subarray(0, randomBelow(random, 100)));
}

const ASKED = Number(process.env["GARBAGE_TRIES"] ?? "");

/** How long a campaign may take. */
export const CAMPAIGN_MS: number = 3_600_000;

/** Whether this is `npm run test:garbage`. */
export const isCampaign: boolean = ASKED > 0;

/** How often to try: `npm run test:garbage` says so, and `npm test` tries less. */
export function tries(usual: number, share = 1): number {
  return isCampaign ? Math.ceil(ASKED * share) : usual;
}

/** Bytes in use after all garbage was collected. */
export function heapBytes(): number {
  setFlagsFromString("--expose-gc");
  const collect: unknown = runInNewContext("gc");
  if (typeof collect === "function") collect();
  return process.memoryUsage().heapUsed;
}

/** That `what` holds no more than before. Some MiB are code that was compiled, and caches that are full now. */
export function expectNoGrowth(what: string, before: number): void {
  const [was, is] = [before, heapBytes()].map((bytes) => Math.round(bytes / 2 ** 20));
  if (isCampaign) console.log(`${what}: heap ${was} MiB before, ${is} MiB after`);
  expect((is ?? 0) - (was ?? 0)).toBeLessThan(24);
}
