/** What waits in the queues of one class, over all peers. */
export interface Waiting {
  readonly class: string;
  readonly frames: number;
  readonly bytes: number;
}

/** What one protocol has sent and received since the start, frame headers included. */
export interface TrafficRow {
  readonly class: string;
  readonly protocol: string;
  sentFrames: number;
  sentBytes: number;
  receivedFrames: number;
  receivedBytes: number;
}

/** Rows kept: channels are named by the application, and may be closed and opened under new names for ever. */
const ROWS_MAX = 256;

/** Counts bytes by class and protocol: that of a channel is its name, that of a link stream what its frames are about. */
export class Traffic {
  readonly #rows = new Map<string, TrafficRow>();

  row(trafficClass: string, protocol: string): TrafficRow {
    const key = `${trafficClass}/${protocol}`;
    const known = this.#rows.get(key);
    if (known !== undefined) return known;
    if (this.#rows.size >= ROWS_MAX && protocol !== "other") return this.row(trafficClass, "other");
    const counted = { sentFrames: 0, sentBytes: 0, receivedFrames: 0, receivedBytes: 0 };
    const row: TrafficRow = { class: trafficClass, protocol, ...counted };
    this.#rows.set(key, row);
    return row;
  }

  rows(): readonly TrafficRow[] {
    return [...this.#rows.values()];
  }
}

export function countSent(row: TrafficRow, bytes: number): void {
  row.sentFrames += 1;
  row.sentBytes += bytes;
}

export function countReceived(row: TrafficRow, bytes: number): void {
  row.receivedFrames += 1;
  row.receivedBytes += bytes;
}
