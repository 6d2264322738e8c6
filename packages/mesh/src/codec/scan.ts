/** Values nested deeper, or more of them, are nothing this protocol says. */
const DEPTH_MAX = 6;
const VALUES_MAX = 65_536;

/**
 * Whether the bytes are exactly one MessagePack array of plain values (nil, booleans, numbers, strings,
 * arrays) with all its parts present. Run before the decoder, because a decoder allocates what a header
 * claims and acts on extension types: four hostile bytes would otherwise cost gigabytes.
 */
export function isPlainArray(bytes: Uint8Array): boolean {
  const first = bytes[0] ?? 0;
  if ((first & 0xf0) !== 0x90 && first !== 0xdc && first !== 0xdd) return false;
  const scan = new Scan(bytes);
  return scan.value(0) && scan.at === bytes.length;
}

class Scan {
  readonly #bytes: Uint8Array;
  #values = 0;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  value(depth: number): boolean {
    this.#values += 1;
    if (this.at >= this.#bytes.length || depth > DEPTH_MAX || this.#values > VALUES_MAX) return false;
    const token = this.#bytes[this.at] as number;
    this.at += 1;
    if (token <= 0x7f || token >= 0xe0) return true; // fixint
    if (token >= 0xa0 && token <= 0xbf) return this.#skip(token & 0x1f);
    if (token >= 0x90 && token <= 0x9f) return this.#elements(token & 0x0f, depth);
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
      case 0xcf:
      case 0xd3:
        return this.#skip(8);
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
    }
    return false; // Maps, binary and extensions are not used.
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

  #elements(count: number, depth: number): boolean {
    for (let index = 0; index < count; index += 1) if (!this.value(depth + 1)) return false;
    return true;
  }
}
