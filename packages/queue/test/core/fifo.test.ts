import fc from "fast-check";
import { expect, it } from "vitest";

import { Fifo } from "../../src/core/fifo.ts";

it("gives back what came, in order, whatever comes meanwhile", () => {
  const steps = fc.array(
    fc.oneof({ weight: 3, arbitrary: fc.nat() }, { weight: 2, arbitrary: fc.constant("shift") }),
  );
  fc.assert(
    fc.property(steps, (todo) => {
      const fifo = new Fifo<number>();
      const model: number[] = [];
      for (const step of todo) {
        if (typeof step === "number") {
          fifo.push(step);
          model.push(step);
        } else expect(fifo.shift()).toBe(model.shift());
        expect(fifo.first).toBe(model[0]);
        expect([fifo.length, ...fifo]).toEqual([model.length, ...model]);
      }
    }),
  );
});
