import { expect, it } from "vitest";

import { Members } from "./members.ts";

/** Takes one of three members away for good, with what its store held. */
const LOSSES: Readonly<Record<string, (members: Members) => Promise<void>>> = {
  "leaves for good": async (members) => {
    members.tell("c", { type: "leave" });
    await members.poll("a", { type: "peers" }, "peers", ({ count }) => count === 1);
    await members.signal("c", "SIGKILL");
  },
  "comes back without its disk": async (members) => {
    await members.loseDisk("c");
    await members.add("c");
    await members.meet();
  },
};

it.each(Object.keys(LOSSES))(
  "a backlog is on three stores again after one of three members %s, and outlives another",
  { timeout: 90_000 },
  async (loss) => {
    await using members = await Members.start("a", "b", "c");
    for (const name of ["a", "b"]) members.tell(name, { type: "produce", inFlight: 8 });
    await members.until("a backlog", () => members.reports("enqueued").length >= 400);
    for (const name of ["a", "b"]) members.tell(name, { type: "rest" });
    await LOSSES[loss]?.(members);
    await members.add("d");
    await members.meet();
    const isWhole = (report: { lanes: number; weak: number; moving: number }): boolean =>
      report.lanes > 0 && report.weak === 0 && report.moving === 0;
    await members.poll("d", { type: "counts" }, "counts", isWhole);
    const ids = members.reports("enqueued").map(({ report }) => report.id);
    for (const id of ids.filter((_, at) => at % 40 === 0)) {
      await members.poll("b", { type: "inspect", id }, "inspected", ({ holders }) => holders.length === 3);
    }
    await members.signal("a", "SIGKILL");
    members.tell("d", { type: "consume" });
    await members.until("every acknowledged message is consumed", () => members.missing.size === 0);
    expect([...members.holders].filter(([, count]) => count > 1)).toEqual([]);
  },
);
