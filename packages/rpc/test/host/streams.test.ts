import { describe, expect, it } from "vitest";

import { Outlet } from "../../src/host/streams.ts";

describe("the writing end of a stream", () => {
  it("ends where it waits for room, once its reader is gone, and its source with it", async () => {
    let isEnded = false;
    function* source(): Generator<number> {
      try {
        for (let no = 0; ; no += 1) yield no;
      } finally {
        isEnded = true;
      }
    }
    const waiting = Promise.withResolvers<void>();
    const sent: unknown[] = [];
    const outlet = new Outlet();
    const pumped = outlet.pump(source(), {
      check: () => undefined,
      room: () => {
        waiting.resolve();
        return new Promise<void>(() => undefined);
      },
      send: (value) => sent.push(value),
    });
    await waiting.promise;
    outlet.close();
    expect(await pumped).toBe(false);
    expect([isEnded, sent]).toEqual([true, []]);
  });

  it("asks again for room that somebody else took", async () => {
    let asked = 0;
    const outlet = new Outlet();
    const sent: unknown[] = [];
    const way = {
      check: () => undefined,
      room: () => ((asked += 1) < 4 ? Promise.resolve() : undefined),
      send: (value: unknown) => sent.push(value),
    };
    expect(await outlet.pump([1], way)).toBe(true);
    expect([asked, sent]).toEqual([4, [1]]);
  });
});
