/** 64 bits as two unsigned 32-bit halves: comparing them needs no bigint. */
export interface Hash64 {
  readonly high: number;
  readonly low: number;
}

/**
 * The first 64 bits of MurmurHash3_x86_128 (Appleby, public domain), seed 0, over the UTF-8 bytes of `text`.
 * For placement and buckets: spreads well, says nothing about who made the text. Every node must
 * compute the same, so it never changes; the tests hold published vectors.
 */
export function hash64(text: string): Hash64 {
  const bytes = utf8(text);
  const lanes: Lanes = [0, 0, 0, 0];
  const whole = bytes.length - (bytes.length % 16);
  for (let at = 0; at < whole; at += 16) mixBlock(lanes, bytes, at);
  mixTail(lanes, bytes, whole);
  const [a, b, c, d] = spread(lanes.map((lane) => lane ^ bytes.length));
  const [high, low] = spread([a, b, c, d].map(avalanche));
  return { high: high >>> 0, low: low >>> 0 };
}

/**
 * `candidates` by falling weight for `key` (highest random weight, Thaler and Ravishankar 1998): any
 * two nodes agree on the order, and a candidate that leaves moves nobody else. Pure; duplicates stay.
 */
export function rendezvousOrder(key: string, candidates: readonly string[]): string[] {
  const weighted = candidates.map((name) => ({ name, weight: hash64(`${key}\0${name}`) }));
  weighted.sort((a, b) => {
    if (a.weight.high !== b.weight.high) return b.weight.high - a.weight.high;
    if (a.weight.low !== b.weight.low) return b.weight.low - a.weight.low;
    return a.name < b.name ? -1 : Number(a.name > b.name);
  });
  return weighted.map(({ name }) => name);
}

type Lanes = [number, number, number, number];

const C1 = 0x239b961b;
const C2 = 0xab0e9789;
const C3 = 0x38b34ae5;
const C4 = 0xa1e38b93;

function rotate(value: number, bits: number): number {
  return (value << bits) | (value >>> (32 - bits));
}

function word(bytes: readonly number[], at: number): number {
  const low = (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8);
  return low | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24);
}

function mixBlock(lanes: Lanes, bytes: readonly number[], at: number): void {
  lanes[0] ^= Math.imul(rotate(Math.imul(word(bytes, at), C1), 15), C2);
  lanes[0] = (Math.imul((rotate(lanes[0], 19) + lanes[1]) | 0, 5) + 0x561ccd1b) | 0;
  lanes[1] ^= Math.imul(rotate(Math.imul(word(bytes, at + 4), C2), 16), C3);
  lanes[1] = (Math.imul((rotate(lanes[1], 17) + lanes[2]) | 0, 5) + 0x0bcaa747) | 0;
  lanes[2] ^= Math.imul(rotate(Math.imul(word(bytes, at + 8), C3), 17), C4);
  lanes[2] = (Math.imul((rotate(lanes[2], 15) + lanes[3]) | 0, 5) + 0x96cd1c35) | 0;
  lanes[3] ^= Math.imul(rotate(Math.imul(word(bytes, at + 12), C4), 18), C1);
  lanes[3] = (Math.imul((rotate(lanes[3], 13) + lanes[0]) | 0, 5) + 0x32ac3b17) | 0;
}

/** The last 0 to 15 bytes; words beyond the end are 0 and change nothing. */
function mixTail(lanes: Lanes, bytes: readonly number[], at: number): void {
  lanes[3] ^= Math.imul(rotate(Math.imul(word(bytes, at + 12), C4), 18), C1);
  lanes[2] ^= Math.imul(rotate(Math.imul(word(bytes, at + 8), C3), 17), C4);
  lanes[1] ^= Math.imul(rotate(Math.imul(word(bytes, at + 4), C2), 16), C3);
  lanes[0] ^= Math.imul(rotate(Math.imul(word(bytes, at), C1), 15), C2);
}

/** Adds all lanes to the first and that sum to the others. */
function spread(lanes: readonly number[]): Lanes {
  const [a = 0, b = 0, c = 0, d = 0] = lanes;
  const sum = (a + b + c + d) | 0;
  return [sum, (b + sum) | 0, (c + sum) | 0, (d + sum) | 0];
}

function avalanche(value: number): number {
  let mixed = value ^ (value >>> 16);
  mixed = Math.imul(mixed, 0x85ebca6b);
  mixed ^= mixed >>> 13;
  mixed = Math.imul(mixed, 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}

/** UTF-8 without `TextEncoder`, which a core does not have; a lone surrogate becomes U+FFFD as there. */
function utf8(text: string): number[] {
  const bytes: number[] = [];
  for (let at = 0; at < text.length; at += 1) {
    const raw = text.codePointAt(at) ?? 0;
    if (raw > 0xffff) at += 1; // Of two units.
    const code = raw >= 0xd800 && raw <= 0xdfff ? 0xfffd : raw;
    if (code < 0x80) bytes.push(code);
    else if (code < 0x800) bytes.push(0xc0 | (code >> 6), continuation(code));
    else if (code < 0x1_0000) bytes.push(0xe0 | (code >> 12), continuation(code >> 6), continuation(code));
    else
      bytes.push(0xf0 | (code >> 18), continuation(code >> 12), continuation(code >> 6), continuation(code));
  }
  return bytes;
}

function continuation(bits: number): number {
  return 0x80 | (bits & 0x3f);
}
