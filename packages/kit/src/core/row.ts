/**
 * A key of a letter and two numbers, for what a store holds very many of. It is the key
 * `r/0000002a/00000007` in another form: it takes the same place among other keys and can be read by its text.
 */
export interface RowKey {
  /** Code of a letter from a to z. */
  readonly family: number;
  /** 32 bits. */
  readonly slot: number;
  /** 32 bits. */
  readonly seq: number;
}

const CODE_A = 0x61;
const CODE_Z = 0x7a;
const SLASH = 0x2f;
/** Characters of a row's text: letter, slash, eight digits, slash, eight digits. */
const TEXT_CHARS = 19;
const DIGITS = 8;

const HEX4: readonly string[] = Array.from({ length: 0x1_0000 }, (_, value) =>
  value.toString(16).padStart(4, "0"),
);

/** Eight hexadecimal digits. */
export function hex8(value: number): string {
  return `${HEX4[value >>> 16] ?? ""}${HEX4[value & 0xffff] ?? ""}`;
}

/** A row's key as text. */
export function rowText(family: number, slot: number, seq: number): string {
  return `${String.fromCharCode(family)}/${hex8(slot)}/${hex8(seq)}`;
}

/** Any key as text. */
export function keyText(key: string | RowKey): string {
  return typeof key === "string" ? key : rowText(key.family, key.slot, key.seq);
}

/** Whether it has the numbers of a row, in range: nothing else has a text of its own. Anything may be passed. */
export function isRow(key: Partial<RowKey> | null | undefined): boolean {
  const { family, slot, seq } = key ?? {};
  return isUint32(family) && family >= CODE_A && family <= CODE_Z && isUint32(slot) && isUint32(seq);
}

function isUint32(value: unknown): value is number {
  return typeof value === "number" && value >>> 0 === value;
}

/** The row that a key is, in either form; `undefined` for every other key. */
export function rowOf(key: string | RowKey): RowKey | undefined {
  return typeof key === "string" ? parsed(key) : key;
}

function parsed(text: string): RowKey | undefined {
  if (text.length !== TEXT_CHARS || text.charCodeAt(1) !== SLASH || text.charCodeAt(2 + DIGITS) !== SLASH) {
    return undefined;
  }
  const family = text.charCodeAt(0);
  const slot = number(text, 2);
  const seq = number(text, 3 + DIGITS);
  if (family < CODE_A || family > CODE_Z || slot === undefined || seq === undefined) return undefined;
  return { family, slot, seq };
}

/** Eight lower-case hexadecimal digits from `at` on. */
function number(text: string, at: number): number | undefined {
  let value = 0;
  for (let index = at; index < at + DIGITS; index += 1) {
    const code = text.charCodeAt(index);
    const digit = code <= 0x39 ? code - 0x30 : code >= CODE_A ? code - CODE_A + 10 : -1;
    if (digit < 0 || digit > 15) return undefined;
    value = value * 16 + digit;
  }
  return value;
}
