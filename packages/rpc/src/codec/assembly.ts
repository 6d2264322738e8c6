import { CHUNK_BYTES, FLOWS_MAX, ITEM_BYTES_MAX } from "../core/limits.ts";
import type { Message } from "../core/messages.ts";
import { decodeItem } from "./frames.ts";
import { CodecError } from "./read.ts";

interface Flow {
  readonly parts: Uint8Array[];
  bytes: number;
}

/** Puts the chunks of one session together again. Holds at most `FLOWS_MAX` items, each with a limit. */
export class Assembly {
  readonly #flows = new Map<number, Flow>();

  /** The whole item with its last chunk, `undefined` before. Throws {@link CodecError}. */
  add({ flow: no, last, bytes }: Message & { readonly type: "chunk" }): Message | undefined {
    const flow = this.#flows.get(no) ?? { parts: [], bytes: 0 };
    // Not `slice` of its own: that of a Buffer is a view, which would keep its whole receive buffer.
    flow.parts.push(last ? bytes : new Uint8Array(bytes));
    flow.bytes += bytes.length;
    if (flow.bytes > ITEM_BYTES_MAX || bytes.length === 0)
      throw new CodecError("an item of a forbidden size");
    // Of shorter ones, an item of bytes one by one would take gigabytes.
    if (!last && bytes.length < CHUNK_BYTES) throw new CodecError("a chunk that is too short");
    if (last) {
      this.#flows.delete(no);
      return decodeItem(Buffer.concat(flow.parts, flow.bytes));
    }
    this.#flows.set(no, flow);
    if (this.#flows.size > FLOWS_MAX) throw new CodecError("too many large items at once");
    return undefined;
  }
}
