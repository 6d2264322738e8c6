/** Values nested deeper, or more of them, are nothing this protocol says. */
const DEPTH_MAX = 6;
const VALUES_MAX = 65_536;

/** What may be in a message beside nil, booleans, numbers, strings and arrays. */
export interface ScanLimits {
  readonly depthMax: number;
  /** Integers of 64 bits: a decoder may make bigints of them. */
  readonly int64: boolean;
  /** Byte strings. */
  readonly binary: boolean;
  /** Maps whose keys are strings. */
  readonly maps: boolean;
}

/** Of messages that carry members' signatures. */
export const WITH_SIGNATURES: ScanLimits = { depthMax: DEPTH_MAX, int64: true, binary: true, maps: false };
const PLAIN: ScanLimits = { depthMax: DEPTH_MAX, int64: true, binary: false, maps: false };

/**
 * Whether the bytes are exactly one MessagePack array of plain values (nil, booleans, numbers, strings,
 * arrays) with all its parts present. Run before the decoder, because a decoder allocates what a header
 * claims and acts on extension types: four hostile bytes would otherwise cost gigabytes.
 */
export function isPlainArray(bytes: Uint8Array, limits: ScanLimits = PLAIN): boolean {
  const first = bytes[0] ?? 0;
  if ((first & 0xf0) !== 0x90 && first !== 0xdc && first !== 0xdd) return false;
  return isPlainValue(bytes, limits);
}

/** Whether the bytes are exactly one MessagePack value within `limits`, with all its parts present. */
export function isPlainValue(bytes: Uint8Array, limits: ScanLimits): boolean {
  const scan = new Scan(bytes, limits);
  return scan.value(0) && scan.at === bytes.length;
}

class Scan {
  readonly #bytes: Uint8Array;
  readonly #limits: ScanLimits;
  #values = 0;
  at = 0;

  constructor(bytes: Uint8Array, limits: ScanLimits) {
    this.#bytes = bytes;
    this.#limits = limits;
  }

  value(depth: number): boolean {
    this.#values += 1;
    if (this.at >= this.#bytes.length || depth > this.#limits.depthMax || this.#values > VALUES_MAX)
      return false;
    const token = this.#bytes[this.at] as number;
    this.at += 1;
    if (token <= 0x7f || token >= 0xe0) return true; // fixint
    if (token >= 0xa0 && token <= 0xbf) return this.#skip(token & 0x1f);
    if (token >= 0x90 && token <= 0x9f) return this.#elements(token & 0x0f, depth);
    if (token >= 0x80 && token <= 0x8f) return this.#entries(token & 0x0f, depth);
    switch (token) {
      case 0xc0: // nil
      case 0xc2: // false
      case 0xc3: // true
        return true;
      case 0xcc: // uint8
      case 0xd0: // int8
        return this.#skip(1);
      case 0xcd:
      case 0xd1:
        return this.#skip(2);
      case 0xca: // float32
      case 0xce:
      case 0xd2:
        return this.#skip(4);
      case 0xcb: // float64
        return this.#skip(8);
      case 0xcf:
      case 0xd3:
        return this.#limits.int64 && this.#skip(8);
      case 0xd9:
        return this.#skip(this.#size(1));
      case 0xda:
        return this.#skip(this.#size(2));
      case 0xdb:
        return this.#skip(this.#size(4));
      case 0xdc:
        return this.#elements(this.#size(2), depth);
      case 0xdd:
        return this.#elements(this.#size(4), depth);
      case 0xde:
        return this.#entries(this.#size(2), depth);
      case 0xdf:
        return this.#entries(this.#size(4), depth);
      case 0xc4: // bin8
        return this.#limits.binary && this.#skip(this.#size(1));
      case 0xc5:
        return this.#limits.binary && this.#skip(this.#size(2));
      case 0xc6:
        return this.#limits.binary && this.#skip(this.#size(4));
    }
    return false; // Extensions are not used.
  }

  #size(bytes: number): number {
    let size = 0;
    for (let index = 0; index < bytes; index += 1) size = size * 256 + (this.#bytes[this.at + index] ?? 0xff);
    this.at += bytes;
    return size;
  }

  #skip(bytes: number): boolean {
    this.at += bytes;
    return this.at <= this.#bytes.length;
  }

  #entries(count: number, depth: number): boolean {
    if (!this.#limits.maps) return false;
    for (let index = 0; index < count; index += 1) {
      const key = this.#bytes[this.at] ?? 0;
      const isText = (key >= 0xa0 && key <= 0xbf) || (key >= 0xd9 && key <= 0xdb);
      if (!isText || !this.value(depth + 1) || !this.value(depth + 1)) return false;
    }
    return true;
  }

  #elements(count: number, depth: number): boolean {
    for (let index = 0; index < count; index += 1) if (!this.value(depth + 1)) return false;
    return true;
  }
}
