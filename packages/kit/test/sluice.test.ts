import { describe, expect, it } from "vitest";
import { Sluice } from "@klatsch/kit";

const turn = async (): Promise<void> => await new Promise((resolve) => setImmediate(resolve));

describe("a sluice", () => {
  it("lets so many through in a turn, in order, and refuses what is too much to wait", async () => {
    const gone: number[] = [];
    const sluice = new Sluice<number>({ turnMax: 2, waitingMax: 3 }, (item) => gone.push(item));
    const entered = Array.from({ length: 7 }, (_, no) => sluice.enter(no));
    expect(entered).toEqual([true, true, true, true, true, false, false]);
    expect(gone).toEqual([0, 1]);
    await turn();
    expect(gone).toEqual([0, 1, 2, 3]);
    await turn();
    expect(gone).toEqual([0, 1, 2, 3, 4]);
    expect([7, 8].map((no) => sluice.enter(no))).toEqual([true, true]);
    expect(gone).toEqual([0, 1, 2, 3, 4, 7]);
    sluice.stop();
    await turn();
    expect(gone).toEqual([0, 1, 2, 3, 4, 7]);
    sluice.enter(9); // It goes on with what comes after.
    expect(gone.at(-1)).toBe(9);
  });
});
