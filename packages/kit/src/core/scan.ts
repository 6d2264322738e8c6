/** What follows the first byte of a value: a count, and what is counted. */
interface Kind {
  /** The count, where the first byte has it. */
  readonly count: number;
  /** Bytes of the count behind the first byte. */
  readonly width: number;
  /** Values for each of the count: 2 of maps. 0: bytes are counted. */
  readonly values: 0 | 1 | 2;
  readonly extension: boolean;
  /** Whether it becomes an object. */
  readonly part: boolean;
}

/** Extensions that are sent: `undefined`, and instants. */
const UNDEFINED = 0x00;
const INSTANT = 0xff;
const KINDS: readonly (Kind | undefined)[] = Array.from({ length: 0x100 }, (_, byte) => kindOf(byte));

/** `undefined`: nothing that is sent. */
function kindOf(byte: number): Kind | undefined {
  const bytes = { count: 0, width: 0, values: 0, extension: false, part: false } as const;
  const below = (from: number): number => byte - from;
  if (byte <= 0x7f || byte >= 0xe0) return bytes; // Numbers that are their own first byte.
  if (byte <= 0x8f) return { ...bytes, count: below(0x80), values: 2, part: true };
  if (byte <= 0x9f) return { ...bytes, count: below(0x90), values: 1, part: true };
  if (byte <= 0xbf) return { ...bytes, count: below(0xa0) };
  if (byte <= 0xc3) return byte === 0xc1 ? undefined : bytes; // Nil and booleans; never used.
  if (byte <= 0xc6) return { ...bytes, width: 1 << below(0xc4), part: true };
  if (byte <= 0xc9) return { ...bytes, width: 1 << below(0xc7), extension: true, part: true };
  if (byte <= 0xcb) return { ...bytes, count: 4 << below(0xca) }; // float32, float64
  if (byte <= 0xcf) return { ...bytes, count: 1 << below(0xcc) }; // uint8 to uint64
  if (byte <= 0xd3) return { ...bytes, count: 1 << below(0xd0) };
  if (byte <= 0xd8) return { ...bytes, count: 1 << below(0xd4), extension: true, part: true };
  if (byte <= 0xdb) return { ...bytes, width: 1 << below(0xd9) };
  if (byte <= 0xdd) return { ...bytes, width: 2 << below(0xdc), values: 1, part: true };
  return { ...bytes, width: 2 << below(0xde), values: 2, part: true };
}

/**
 * Whether the bytes are one MessagePack value, whole, with no more than `partsMax` lists, maps, entries of maps, byte strings
 * and extensions, of which those for `undefined` and instants may be there. Run before a decoder is let loose on a peer's bytes: it
 * knows extensions that let a few hundred bytes stand for gigabytes, and makes objects of single bytes, for seconds.
 */
export function isWithinMeans(bytes: Uint8Array, partsMax: number): boolean {
  let at = 0;
  let parts = 0;
  /** Values that have to follow, each of a byte at least: what is claimed beyond that is never looked for. */
  let open = 1;
  while (open > 0 && open <= bytes.length - at && parts <= partsMax) {
    const first = bytes[at] as number;
    at += 1;
    open -= 1;
    if (first <= 0x7f || first >= 0xe0) continue; // A small number: most are, where there are many.
    const kind = KINDS[first];
    if (kind === undefined) return false;
    let { count } = kind;
    for (const end = at + kind.width; at < end; at += 1) count = count * 256 + (bytes[at] ?? 0);
    if (kind.extension) {
      const type = bytes[at];
      if (type !== UNDEFINED && type !== INSTANT) return false;
      at += 1;
    }
    if (kind.values === 0) at += count;
    else open += count * kind.values;
    if (kind.part) parts += kind.values === 2 ? 1 + count : 1; // A key may be one that was never seen before.
  }
  return open === 0 && at === bytes.length && parts <= partsMax;
}
