/** Plain data: what MessagePack has a form for. No key is `__proto__`: it is refused (`STATE_INVALID`). */
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

/** Which keys are meant; what is left out does not narrow. */
export interface KeyFilter {
  readonly key?: string | undefined;
  /** Keys that begin so. */
  readonly prefix?: string | undefined;
}

/** Which entries are meant; what is left out does not narrow. */
export interface StateFilter extends KeyFilter {
  readonly peerId?: string | undefined;
}

/** One entry that all members share. */
export interface SharedEntry {
  readonly key: string;
  readonly value: StateValue;
  /** Peer id of the member that wrote it. */
  readonly writer: string;
  /** When it was written, as the mesh's clocks had it; a hint. Milliseconds since the epoch. */
  readonly writtenWallMs: number;
}

/** A change of a shared entry: `value` is `undefined` where the key is gone. */
export interface SharedChange extends Omit<SharedEntry, "value"> {
  readonly value: StateValue | undefined;
}

/**
 * Entries that all members share and any member may write: the last writer wins, everywhere the same one. They are
 * signed by their writer, kept on every member's disk, and outlast all processes. What is deleted stays deleted.
 *
 * Last-writer-wins is no lock: of two who write at the same time one is overwritten without being told.
 * Keys as for own entries. One value takes at most 32 KiB encoded, a mesh has at most 16 384 keys and 16 MiB.
 */
export interface SharedState {
  /**
   * Writes an entry; resolves once it is on this node's disk, and on its way to the others. With `override` it wins
   * over all that are written without.
   * @throws MeshError `INVALID_OPTIONS`, `STATE_INVALID`, `STATE_TOO_LARGE`, `FORBIDDEN`, `CLOCK_SKEW` (this machine's clock is more
   * than 60 s off), `LIMIT_REACHED` (1,024 writes wait for the disk), `STOPPED`.
   */
  set(key: string, value: StateValue, options?: { readonly override?: boolean | undefined }): Promise<void>;
  /** Deletes an entry. `false`: there was none. Throws what {@link set} throws. */
  delete(key: string, options?: { readonly override?: boolean | undefined }): Promise<boolean>;
  /** The value this node knows. Each call gives a value of its own. */
  get(key: string): StateValue | undefined;
  /** What this node knows, ordered by key. */
  entries(filter?: KeyFilter): readonly SharedEntry[];
  /** Calls `listener` at each change from now on until the returned function is called. A listener that throws or rejects is logged. */
  watch(filter: KeyFilter, listener: (change: SharedChange) => void): () => void;
}

/**
 * Gossip state. What a member says of itself, its *own* entries, spreads to all members and ends with its process:
 * a restarted one begins with none. A change arrives at linked members at once; five in a row are told at once,
 * more gather for 10 s (each key's latest value is told).
 *
 * Keys are 1 to 128 characters of `A-Z a-z 0-9 . _ : @ / -`; those that begin with `klatsch/` are the mesh's own, and shown only
 * where a filter names them.
 * One value takes at most 32 KiB encoded, a member has at most 256 keys and 64 KiB.
 */
export interface MeshState {
  /** Entries that all members share. */
  readonly shared: SharedState;
  /**
   * Says something of this node. Reading here shows it at once.
   * @throws MeshError `INVALID_OPTIONS`, `STATE_INVALID`, `STATE_TOO_LARGE`, `FORBIDDEN`, `STOPPED`.
   */
  set(key: string, value: StateValue): void;
  /**
   * Takes back what was said under `key`. `false`: nothing was.
   * @throws MeshError `INVALID_OPTIONS`, `STATE_INVALID`, `FORBIDDEN`, `STOPPED`.
   */
  delete(key: string): boolean;
  /** What a member says of itself under `key`. Each call gives a value of its own. @throws MeshError `INVALID_OPTIONS`. */
  get(peerId: string, key: string): StateValue | undefined;
  /** All that members say of themselves, ordered by peer id and key. What the dead said last stays till they are forgotten. */
  entries(filter?: StateFilter): readonly StateEntry[];
  /** Calls `listener` at each change from now on until the returned function is called. A listener that throws or rejects is logged. */
  watch(filter: StateFilter, listener: (change: StateChange) => void): () => void;
}
