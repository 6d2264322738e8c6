/** Plain data: what MessagePack has a form for. */
export type StateValue =
  | null
  | boolean
  | number
  | string
  | Uint8Array
  | readonly StateValue[]
  | { readonly [key: string]: StateValue };

/** One entry of a member's own state. */
export interface StateEntry {
  readonly peerId: string;
  readonly key: string;
  readonly value: StateValue;
  /** Start number of the member's process that said so. */
  readonly boot: number;
}

/** A change of a member's own state: `value` is `undefined` where the key is gone. */
export interface StateChange {
  readonly peerId: string;
  readonly key: string;
  readonly value: StateValue | undefined;
  readonly boot: number;
}

/** Which entries are meant; what is left out does not narrow. */
export interface StateFilter {
  readonly peerId?: string | undefined;
  readonly key?: string | undefined;
  /** Keys that begin so. */
  readonly prefix?: string | undefined;
}

/**
 * Gossip state. What a member says of itself, its *own* entries, spreads to all members and ends with its process:
 * a restarted one begins with none. A change arrives at linked members at once; five in a row are told at once,
 * more gather for 10 s (each key's latest value is told).
 *
 * Keys are 1 to 128 characters of `A-Z a-z 0-9 . _ : @ / -`; those that begin with `klatsch/` are the mesh's own.
 * One value takes at most 32 KiB encoded, a member has at most 256 keys and 64 KiB.
 */
export interface MeshState {
  /**
   * Says something of this node. Reading here shows it at once.
   * @throws MeshError `STATE_INVALID`, `STATE_TOO_LARGE`, `FORBIDDEN`, `STOPPED`.
   */
  set(key: string, value: StateValue): void;
  /**
   * Takes back what was said under `key`. `false`: nothing was.
   * @throws MeshError `STATE_INVALID`, `FORBIDDEN`, `STOPPED`.
   */
  delete(key: string): boolean;
  /** What a member says of itself under `key`. Each call gives a value of its own. */
  get(peerId: string, key: string): StateValue | undefined;
  /** All that members say of themselves, ordered by peer id and key. What the dead said last stays till they are forgotten. */
  entries(filter?: StateFilter): readonly StateEntry[];
  /** Calls `listener` at each change from now on until the returned function is called. A listener that throws is logged. */
  watch(filter: StateFilter, listener: (change: StateChange) => void): () => void;
}
