import { describe, expect, it } from "vitest";

import { encodeParts } from "../../src/codec/frames.ts";
import { SHORT_BYTES } from "../../src/core/limits.ts";
import { Outbox } from "../../src/host/outbox.ts";

const turn = async (): Promise<void> => await new Promise((resolve) => process.nextTick(resolve));
const LARGE = 4_000_000;

describe("an outbox", () => {
  it("tells those who wait for room one by one as there is, and the rest when it closes", async () => {
    let sent = 0;
    const send = (frame: Uint8Array): boolean => ((sent += frame.length), true);
    const outbox = new Outbox({ keeps: true, onRefused: () => undefined, onRest: () => undefined, send });
    const push = (id: number): void => {
      outbox.push(id, encodeParts({ type: "reply", id, value: new Uint8Array(LARGE) }), undefined);
    };
    let id = 0;
    while (!outbox.full) push((id += 1));
    expect([outbox.takes(SHORT_BYTES + 1), outbox.takes(SHORT_BYTES)]).toEqual([false, true]);
    while (outbox.takes(0)) push((id += 1));
    expect([outbox.takes(SHORT_BYTES), outbox.isFlooded]).toEqual([false, false]);
    const told: [number, boolean][] = [];
    for (let no = 0; no < 12; no += 1) {
      outbox.whenRoom((open) => {
        told.push([no, open]);
        if (open) push((id += 1));
      });
    }
    await turn();
    expect([outbox.waiting, told]).toEqual([12, []]);
    for (let taken = 0; told.length === 0;) {
      const bytes = sent - taken;
      taken += bytes;
      outbox.confirmed(bytes);
      await turn();
    }
    expect(told.length).toBeLessThan(12);
    outbox.close();
    expect(outbox.waiting).toBe(0);
    expect(told.map(([no]) => no)).toEqual(Array.from({ length: 12 }, (_, no) => no));
    expect(told.at(-1)).toEqual([11, false]);
  });
});
