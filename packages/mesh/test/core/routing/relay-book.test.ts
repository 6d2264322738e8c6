import { describe, expect, it } from "vitest";
import { RelayBook } from "../../../src/core/routing/relay-book.ts";
import type { NodeLinks } from "../../../src/core/routing/types.ts";

const SELF: NodeLinks = {
  peer: "r",
  cloud: "x",
  gateway: false,
  router: true,
  overloaded: false,
  reaches: undefined,
  links: [],
};

/** The book of relay r, linked with a, b and g of another cloud. */
function book(self: Partial<NodeLinks> = {}): RelayBook {
  return new RelayBook(
    { tunnelsMax: 3, tunnelsPerSourceMax: 2 },
    {
      self: () => ({ ...SELF, ...self }),
      isLinked: (peer) => ["a", "b", "g"].includes(peer),
      cloudOf: (peer) => (peer === "g" ? "y" : "x"),
    },
  );
}

const asked = (route: string, index = 1): { readonly route: string[]; readonly index: number } => ({
  route: route.split(""),
  index,
});

describe("RelayBook", () => {
  it("carries what passes it on links it has, and ends what ends here", () => {
    expect(book().judge(asked("arb"), "a")).toEqual({ type: "carry", next: "b", source: "a" });
    expect(book().judge(asked("zarbw", 2), "a")).toEqual({ type: "carry", next: "b", source: "z" });
    expect(book().judge(asked("ar"), "a")).toEqual({ type: "end", source: "a" });
  });

  it.each([
    ["a peer twice", asked("arba"), "a"],
    ["more than 16 links", asked("arbcdefghijklmnopq"), "a"],
    ["somebody else's turn", asked("arb", 2), "r"],
    ["the sender's own turn", asked("ra", 0), "a"],
    ["another asker", asked("arb"), "b"],
    ["nobody", asked(""), "a"],
  ])("refuses a route with %s", (_what, request, from) => {
    expect(book().judge(request, from)).toEqual({ type: "refuse", code: "BAD_ROUTE" });
  });

  it("refuses where it has no link to the next, or to whoever asks", () => {
    expect(book().judge(asked("arq"), "a")).toEqual({ type: "refuse", code: "NOT_DIRECT" });
    expect(book().judge(asked("qrb"), "q")).toEqual({ type: "refuse", code: "NOT_DIRECT" });
  });

  it("refuses to carry without a router, and is still an end", () => {
    const without = book({ router: false });
    expect(without.judge(asked("arb"), "a")).toEqual({ type: "refuse", code: "NO_ROUTE" });
    expect(without.judge(asked("ar"), "a")).toEqual({ type: "end", source: "a" });
  });

  it("carries between clouds as a gateway only, and only between clouds that want it", () => {
    expect(book().judge(asked("arg"), "a")).toEqual({ type: "refuse", code: "FORBIDDEN" });
    expect(book({ gateway: true }).judge(asked("arg"), "a").type).toBe("carry");
    expect(book({ gateway: true, reaches: [] }).judge(asked("arg"), "a").type).toBe("refuse");
    expect(book({ reaches: [] }).judge(asked("gr"), "g")).toEqual({ type: "refuse", code: "FORBIDDEN" });
  });

  it("never carries more than it may, of all or of one, and takes more as others end", () => {
    const relay = book();
    const judge = (route: string): string => {
      const verdict = relay.judge(asked(route), route[0] ?? "");
      return verdict.type === "refuse" ? verdict.code : verdict.type;
    };
    expect([judge("arb"), judge("arb"), judge("arb")]).toEqual(["carry", "carry", "RELAY_FULL"]);
    expect([judge("bra"), judge("bra")]).toEqual(["carry", "RELAY_FULL"]);
    expect(relay.examine(asked("bra"), "b").type).toBe("carry"); // A probe takes no room.
    relay.release("a");
    expect([judge("bra"), judge("arb"), relay.count]).toEqual(["carry", "RELAY_FULL", 3]);
  });
});
