import type { Context } from "./context.ts";
import { Fifo } from "./fifo.ts";
import type { LaneWriter } from "./lane-writer.ts";
import type { EnteredItem, EnterItem } from "./messages.ts";
import type { Holder, LaneId, PeerId } from "./types.ts";

/** Whom to tell of one enqueue. */
interface Asker {
  readonly peer: PeerId;
  readonly token: string;
  readonly isDuplicate: boolean;
}

/** What the doors of a node's ordered lanes ask of it. */
export interface EntranceHost {
  /** A consumer with credit, for a message that can be handed out at once. */
  claim(lane: LaneWriter): Holder | undefined;
  leaseMs(lane: LaneWriter): number;
  /** Whom to ask instead. */
  hint(lane: LaneId): PeerId | undefined;
}

/** One ordered lane that this node writes. */
interface Door {
  readonly lane: LaneWriter;
  /** Seqs that are not on q replicas yet, the oldest first, and who waits for each. */
  readonly open: Map<number, Asker[]>;
  /** They wait for the append window, each since when. */
  readonly waiting: Fifo<readonly [peer: PeerId, item: EnterItem, atMs: number]>;
}

/** The writer's side of an enqueue in an ordered queue: what came before is recognised, all else is appended. */
export class Entrances {
  readonly #context: Context;
  readonly #host: EntranceHost;
  readonly #doors = new Map<LaneWriter, Door>();
  readonly #answers = new Map<PeerId, Map<LaneId, EnteredItem[]>>();

  constructor(context: Context, host: EntranceHost) {
    this.#context = context;
    this.#host = host;
  }

  #door(lane: LaneWriter): Door {
    let door = this.#doors.get(lane);
    if (door === undefined) this.#doors.set(lane, (door = { lane, open: new Map(), waiting: new Fifo() }));
    return door;
  }

  /** `lane`: the writer, if this node is it. */
  enter(from: PeerId, lane: LaneWriter | undefined, name: LaneId, items: readonly EnterItem[]): void {
    for (const item of items) {
      const { token = "" } = item.value.attributes ?? {};
      if (lane?.isAppending !== true) this.#answer(from, name, { token, code: "ELSEWHERE", seq: 0 });
      else this.#enter(this.#door(lane), from, item);
    }
  }

  #enter(door: Door, peer: PeerId, item: EnterItem): void {
    const { lane } = door;
    const { token = "", group, dedupKey } = item.value.attributes ?? {};
    const { wallMs } = this.#context.now;
    const known = lane.order?.find({ token, group, dedupKey }, wallMs);
    if (known !== undefined) {
      const asker = { peer, token, isDuplicate: !known.same };
      const askers = door.open.get(known.seq);
      // The first must be chosen before anybody hears of it.
      if (askers === undefined) return this.#tell(door, known.seq, asker);
      askers.push(asker);
      return;
    }
    lane.order?.sweep(this.#context);
    if (lane.isFull || lane.order?.hasRoom !== true) {
      return this.#answer(peer, lane.root, { token, code: "FULL", seq: 0 });
    }
    const { appendWindow, pendingEnqueues } = this.#context.tuning;
    const [oldest = lane.nextSeq] = door.open.keys();
    if (lane.nextSeq - oldest < appendWindow) this.#append(door, peer, item);
    else if (door.waiting.length < pendingEnqueues) door.waiting.push([peer, item, this.#context.now.monoMs]);
    else this.#answer(peer, lane.root, { token, code: "ELSEWHERE", seq: 0 });
  }

  #append({ lane, open }: Door, peer: PeerId, { value, body }: EnterItem): void {
    const { bodyHash, notBeforeWallMs, attributes } = value;
    const { token = "", group, dedupKey } = attributes ?? {};
    const enqueuedWallMs = Math.floor(this.#context.now.wallMs);
    const seq = lane.nextSeq;
    open.set(seq, [{ peer, token, isDuplicate: false }]);
    lane.order?.take(
      { seq, keys: { token, group, dedupKey, atWallMs: enqueuedWallMs } },
      this.#context.awakeMs,
    );
    const isFree = lane.order?.hasGroup(group) !== true && notBeforeWallMs <= this.#context.now.wallMs;
    const holder = isFree ? this.#host.claim(lane) : undefined;
    const content = { body, bodyHash, notBeforeWallMs, enqueuedWallMs, attributes };
    const nobody = { requestId: -1, deadlineMs: Number.POSITIVE_INFINITY };
    lane.append({ ...content, ...nobody }, this.#host.leaseMs(lane), holder);
    this.#answer(peer, lane.root, { token, code: "PENDING", seq });
  }

  /** q replicas have the message. */
  exists(lane: LaneWriter, seq: number): void {
    const door = this.#doors.get(lane);
    const askers = door?.open.get(seq);
    if (door === undefined || askers === undefined) return;
    door.open.delete(seq);
    for (const asker of askers) this.#tell(door, seq, asker);
    const { appendWindow, tokenKeepMs } = this.#context.tuning;
    // As far as there is room: all of them each time would be quadratic.
    for (;;) {
      const [oldest = lane.nextSeq] = door.open.keys();
      const next = lane.nextSeq - oldest < appendWindow ? door.waiting.shift() : undefined;
      if (next === undefined) return;
      const [peer, item, atMs] = next;
      const { token = "" } = item.value.attributes ?? {};
      // Longer than that, and the token of what may be the same enqueue could be forgotten [O8].
      const isOld = this.#context.now.monoMs - atMs > tokenKeepMs / 4;
      if (lane.isAppending && !isOld) this.#enter(door, peer, item);
      else this.#answer(peer, lane.root, { token, code: "ELSEWHERE", seq: 0 });
    }
  }

  #tell({ lane }: Door, seq: number, { peer, token, isDuplicate }: Asker): void {
    this.#answer(peer, lane.root, { token, code: isDuplicate ? "DUPLICATE" : "OK", seq });
  }

  /** Somebody else writes the lane: those who ask find out there what exists. */
  giveUp(lane: LaneWriter): void {
    const door = this.#doors.get(lane);
    this.#doors.delete(lane);
    if (door === undefined) return;
    const tell = (peer: PeerId, token: string): void => {
      this.#answer(peer, lane.root, { token, code: "RETRY", seq: 0 });
    };
    for (const askers of door.open.values()) for (const { peer, token } of askers) tell(peer, token);
    for (const [peer, { value }] of door.waiting) tell(peer, value.attributes?.token ?? "");
  }

  #answer(peer: PeerId, lane: LaneId, item: EnteredItem): void {
    let lanes = this.#answers.get(peer);
    if (lanes === undefined) this.#answers.set(peer, (lanes = new Map()));
    const items = lanes.get(lane);
    if (items === undefined) lanes.set(lane, [item]);
    else items.push(item);
  }

  flush(): void {
    if (this.#answers.size === 0) return;
    for (const [peer, lanes] of this.#answers) {
      for (const [lane, items] of lanes) {
        const asks = items.some(({ code }) => code === "RETRY" || code === "ELSEWHERE");
        const hint = asks ? this.#host.hint(lane) : undefined;
        this.#context.send(peer, { type: "entered", lane, items, hint });
      }
    }
    this.#answers.clear();
  }

  linkDown(peer: PeerId): void {
    this.#answers.delete(peer);
  }
}
