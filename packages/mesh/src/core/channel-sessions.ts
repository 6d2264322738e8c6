/** Said between the two ends of one stream about the channels on it. Numbers only grow, per end and stream. */
export type ChannelNotice =
  | {
      readonly type: "open";
      /** What this end's frames of the session will carry. */
      readonly number: number;
      readonly name: string;
      /** The last number of this name whose close this end has seen from the other; 0 if none. */
      readonly seen: number;
    }
  | { readonly type: "close"; readonly number: number; readonly name: string };

/** What {@link ChannelSessions} calls, synchronously. */
export interface ChannelSessionsPorts {
  send(notice: ChannelNotice): void;
  /** A session begins; frames of ours carry `number`. */
  up(name: string, number: number): void;
  down(name: string): void;
}

interface Side {
  readonly name: string;
  local: boolean;
  /** Number of our standing offer; 0 without one. */
  mine: number;
  mineClosed: number;
  /** Number of their offer that is valid for ours; 0 without one. */
  theirs: number;
  theirsClosed: number;
  up: boolean;
}

/** Names one end may have open on one stream. */
export const CHANNELS_MAX = 64;

/**
 * Which channels are up on one stream. Each end offers a channel with `open`; it is up where one's own offer
 * and the other's are both out. A `close` voids the offers of *both* ends, and an offer counts only if it was
 * made in knowledge of the receiver's last close: so after a close and a new registration no frame of the old
 * session is ever taken for one of the new, whatever crossed on the way. All input is total.
 */
export class ChannelSessions {
  readonly #ports: ChannelSessionsPorts;
  readonly #sides = new Map<string, Side>();
  readonly #byTheirNumber = new Map<number, Side>();
  #lastMine = 0;
  #lastTheirs = 0;

  constructor(ports: ChannelSessionsPorts) {
    this.#ports = ports;
  }

  /** Offers that this end may still make before numbers run out and the stream has to be renewed. */
  get numbersUsed(): number {
    return this.#lastMine;
  }

  register(name: string): void {
    const side = this.#side(name);
    side.local = true;
    this.#offer(side);
  }

  /** `down` comes before this returns, if the channel was up. */
  unregister(name: string): void {
    const side = this.#sides.get(name);
    if (side === undefined || !side.local) return;
    side.local = false;
    side.mineClosed = side.mine;
    this.#ports.send({ type: "close", number: side.mine, name });
    side.mine = 0;
    this.#void(side);
  }

  /** The stream ended: `down` for everything that was up. */
  end(): void {
    for (const side of this.#sides.values()) this.#void(side);
    this.#sides.clear();
    this.#byTheirNumber.clear();
  }

  /** A notice of the other end. `false`: it breaks the protocol, the stream must go. */
  receive(notice: ChannelNotice): boolean {
    switch (notice.type) {
      case "open":
        return this.#opened(notice.number, notice.name, notice.seen);
      case "close":
        return this.#closed(notice.number, notice.name);
    }
  }

  /** The channel a frame belongs to; `stale` if its session ended at this end; `unknown` breaks the protocol. */
  channelOf(number: number): { readonly name: string } | "stale" | "unknown" {
    const side = this.#byTheirNumber.get(number);
    if (side?.up === true) return side;
    return number <= this.#lastTheirs ? "stale" : "unknown";
  }

  #opened(number: number, name: string, seen: number): boolean {
    if (number <= this.#lastTheirs) return false;
    if (!this.#sides.has(name) && this.#sides.size >= CHANNELS_MAX * 2) return false;
    this.#lastTheirs = number;
    const side = this.#side(name);
    if (seen !== side.mineClosed) return true; // They had not seen our close yet; they will offer again.
    if (side.theirs !== 0) this.#byTheirNumber.delete(side.theirs);
    side.theirs = number;
    this.#byTheirNumber.set(number, side);
    this.#check(side);
    return true;
  }

  #closed(number: number, name: string): boolean {
    const side = this.#sides.get(name);
    if (side === undefined || number > this.#lastTheirs || number <= side.theirsClosed) return false;
    side.theirsClosed = number;
    this.#void(side);
    if (side.local) this.#offer(side);
    return true;
  }

  #offer(side: Side): void {
    this.#lastMine += 1;
    side.mine = this.#lastMine;
    this.#ports.send({ type: "open", number: side.mine, name: side.name, seen: side.theirsClosed });
    this.#check(side);
  }

  #check(side: Side): void {
    if (side.up || side.mine === 0 || side.theirs === 0) return;
    side.up = true;
    this.#ports.up(side.name, side.mine);
  }

  #void(side: Side): void {
    if (side.theirs !== 0) this.#byTheirNumber.delete(side.theirs);
    side.theirs = 0;
    if (!side.up) return;
    side.up = false;
    this.#ports.down(side.name);
  }

  #side(name: string): Side {
    const known = this.#sides.get(name);
    if (known !== undefined) return known;
    const side: Side = { name, local: false, mine: 0, mineClosed: 0, theirs: 0, theirsClosed: 0, up: false };
    this.#sides.set(name, side);
    return side;
  }
}
