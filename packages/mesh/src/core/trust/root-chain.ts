import { ROTATIONS_MAX } from "./statements.ts";
import type { Genesis, Rotation, Signed } from "./statements.ts";

/**
 * The root keys of a mesh, first to last. Each commits to the next by its hash before that is used, so whoever steals a
 * root key cannot replace it: only the holder of the pre-committed key can.
 */
export class RootChain {
  readonly #mesh: string;
  readonly #genesis: Genesis;
  readonly #rotations: Signed<Rotation>[] = [];

  constructor(mesh: string, genesis: Genesis) {
    this.#mesh = mesh;
    this.#genesis = genesis;
  }

  get genesis(): Genesis {
    return this.#genesis;
  }

  /** Number of the last rotation; 0 before the first. */
  get seq(): number {
    return this.#rotations.length;
  }

  get rotations(): readonly Signed<Rotation>[] {
    return this.#rotations;
  }

  /** The root that signs now. */
  get current(): string {
    return this.#rotations.at(-1)?.body.key ?? this.#genesis.root;
  }

  /** Takes the next rotation. `forked`: another one of that number is known; its key's holder has signed two. */
  add(rotation: Signed<Rotation>): "added" | "known" | "forked" | "refused" {
    const { body, signer, id } = rotation;
    if (body.mesh !== this.#mesh || signer !== body.key || body.seq < 1) return "refused";
    const known = this.#rotations[body.seq - 1];
    if (known !== undefined) return known.id === id ? "known" : this.#forkOf(body);
    const committed = this.#committed(body.seq);
    if (committed === undefined || body.keyHash !== committed || body.seq > ROTATIONS_MAX) return "refused";
    this.#rotations.push(rotation);
    return "added";
  }

  /** Whether the key with this hash was named before as a root to come, or is one. */
  isCommitted(keyHash: string): boolean {
    return keyHash === this.#committed(1) || this.#rotations.some(({ body }) => body.nextHash === keyHash);
  }

  /** Whether the key is the root, or was it so lately that what it signed still counts. */
  isTrusted(key: string, wallMs: number): boolean {
    const keys = [this.#genesis.root, ...this.#rotations.map(({ body }) => body.key)];
    const index = keys.lastIndexOf(key);
    // Each later rotation may end the overlap of all before it: a stolen root is dropped at once by one with none.
    return (
      index >= 0 && this.#rotations.slice(index).every(({ body }) => wallMs <= body.atWallMs + body.overlapMs)
    );
  }

  #forkOf(body: Rotation): "forked" | "refused" {
    return body.keyHash === this.#committed(body.seq) ? "forked" : "refused";
  }

  /** The hash that rotation `seq` has to match; `undefined` while one before it is missing. */
  #committed(seq: number): string | undefined {
    return seq === 1 ? this.#genesis.nextHash : this.#rotations[seq - 2]?.body.nextHash;
  }
}
