import { generateKeyPair } from "@libp2p/crypto/keys";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { describe, expect, it } from "vitest";
import { Announcements } from "../../src/admission/announcements.ts";
import { Budgets, CHECK_BUDGET } from "../../src/core/budgets.ts";
import { decodeMemberMessage, encodeMemberMessage } from "../../src/codec/link-codec.ts";
import type { MemberMessage, MemberRecord, View } from "../../src/core/messages.ts";
import { recordOf } from "../../src/core/views.ts";

interface Node {
  readonly peer: string;
  readonly announcements: Announcements;
  readonly forged: string[];
  readonly record: MemberRecord;
  /** What peers may call themselves; anything, if it is not there. */
  readonly names: Map<string, string>;
}

let nowMs = 0;

async function node(mesh = "m"): Promise<Node> {
  const privateKey = await generateKeyPair("Ed25519");
  const peer = peerIdFromPrivateKey(privateKey).toString();
  const forged: string[] = [];
  const names = new Map<string, string>();
  const checks = new Budgets(CHECK_BUDGET);
  const announcements = new Announcements({
    ...{ self: peer, mesh, privateKey },
    mayCheck: (from) => checks.take(from, nowMs),
    isCertified: (record) => (names.get(record.peer) ?? record.name) === record.name,
    onForged: (from, subject) => void forged.push(`${subject} by ${from}`),
  });
  const tags = { b: "1", "10": "x", "2": "y" };
  const addresses = [`/ip4/127.0.0.1/tcp/1/p2p/${peer}`];
  const record = { peer, boot: 2 ** 41, inc: 3, name: "n", cloud: "c", tags, addresses };
  return { peer, announcements, forged, record, names };
}

/** As it arrives at the other end. */
function sent(message: MemberMessage): MemberMessage {
  const [bytes = new Uint8Array(0)] = encodeMemberMessage(message);
  const arrived = decodeMemberMessage(bytes);
  if (arrived === undefined) throw new Error("not decoded");
  return arrived;
}

function views(message: MemberMessage | undefined): readonly View[] {
  return message?.type === "views" ? message.views : [];
}

const [a, b, c] = await Promise.all([node(), node(), node()]);

describe("an announcement", () => {
  it.each(["alive", "stopped", "left"] as const)("that a member is %s goes from hand to hand", (status) => {
    const said: View = { ...a.record, status, ageMs: 0, gateway: true, reach: ["north"] };
    const atB = b.announcements.incoming(
      a.peer,
      sent(a.announcements.outgoing({ type: "views", views: [said] })),
    );
    expect(views(atB)).toMatchObject([said]);
    // b keeps it as the core does, and c hears it of b.
    const kept = views(atB).map((view) => ({ ...recordOf(view), status, ageMs: 70 }));
    const atC = c.announcements.incoming(
      b.peer,
      sent(b.announcements.outgoing({ type: "views", views: kept })),
    );
    expect(views(atC)).toMatchObject([{ ...said, ageMs: 70 }]);
    expect([b.forged, c.forged]).toEqual([[], []]);
  });

  it("is checked no oftener for one peer than that may cost, and for others as ever", async () => {
    const [teller, other, hearer] = await Promise.all([node(), node(), node()]);
    const forged: View = { ...a.record, status: "alive", ageMs: 0, signature: new Uint8Array(64) };
    const count = CHECK_BUDGET.burst + 100;
    const message: MemberMessage = { type: "views", views: Array.from({ length: count }, () => forged) };
    expect(views(hearer.announcements.incoming(teller.peer, message))).toEqual([]);
    expect(hearer.forged).toHaveLength(CHECK_BUDGET.burst);
    const good = sent(
      other.announcements.outgoing({
        type: "views",
        views: [{ ...other.record, status: "alive", ageMs: 0 }],
      }),
    );
    expect(views(hearer.announcements.incoming(teller.peer, good))).toEqual([]);
    expect(views(hearer.announcements.incoming(other.peer, good))).toHaveLength(1);
    // What was found good costs nothing any more.
    expect(views(hearer.announcements.incoming(teller.peer, good))).toHaveLength(1);
    nowMs += 10 * CHECK_BUDGET.refillMs;
    hearer.announcements.incoming(teller.peer, message);
    expect(hearer.forged).toHaveLength(CHECK_BUDGET.burst + 10);
  });

  it("of another name than its own link's certificate says is not believed of the member itself", async () => {
    const [liar, linked] = await Promise.all([node(), node()]);
    linked.names.set(liar.peer, "n");
    const says = (name: string): MemberMessage | undefined => {
      const view: View = { ...liar.record, name, status: "alive", ageMs: 0 };
      return linked.announcements.incoming(
        liar.peer,
        sent(liar.announcements.outgoing({ type: "views", views: [view] })),
      );
    };
    expect(views(says("n"))).toHaveLength(1);
    expect(views(says("x"))).toEqual([]);
    expect(linked.forged).toEqual([`${liar.peer} by ${liar.peer}`]);
  });

  it("never passes with anything changed, for another status, mesh or none at all", async () => {
    const [signed] = views(
      a.announcements.outgoing({ type: "views", views: [{ ...a.record, status: "alive", ageMs: 0 }] }),
    );
    const other = await node("other");
    for (const change of [
      { status: "left" },
      { status: "stopped" },
      { boot: a.record.boot + 1 },
      { inc: a.record.inc + 1 },
      { name: "x" },
      { cloud: "x" },
      { tags: {} },
      { addresses: [`/ip4/6.6.6.6/tcp/1/p2p/${a.peer}`] },
      { dialOnly: true },
      { signature: undefined },
      { signature: new Uint8Array(64) },
      { peer: b.peer },
    ] as const) {
      const forged = { ...a.record, ...signed, status: "alive", ageMs: 0, ...change } as View;
      const { announcements } = await node();
      expect(views(announcements.incoming(c.peer, { type: "views", views: [forged] }))).toEqual([]);
    }
    const message = {
      type: "views",
      views: [{ ...a.record, ...signed, status: "alive", ageMs: 0 } as View],
    } as const;
    expect(views(other.announcements.incoming(c.peer, message))).toEqual([]);
    expect(other.forged).toEqual([`${a.peer} by ${c.peer}`]);
    // That somebody is dead is a view of others; it shows what the dead said last.
    const dead = { ...message.views[0], status: "dead" } as View;
    expect(views(c.announcements.incoming(b.peer, { type: "views", views: [dead] }))).toEqual([dead]);
  });

  it("of others about this node is let through, up to what it said itself", () => {
    const said: View = { ...c.record, status: "alive", ageMs: 0 };
    const [signed = said] = views(c.announcements.outgoing({ type: "views", views: [said] }));
    const hears = (...told: View[]): readonly View[] =>
      views(c.announcements.incoming(a.peer, { type: "views", views: told }));
    const dead: View = { ...said, status: "dead" };
    expect(hears(dead)).toEqual([dead]);
    expect(hears({ ...dead, inc: said.inc + 1 }, { ...said, boot: said.boot + 1 })).toEqual([]);
    const suspect = { type: "suspect", subject: c.peer, boot: said.boot, inc: said.inc, id: "x" } as const;
    const accused = (more: object): unknown =>
      c.announcements.incoming(a.peer, { ...suspect, accuser: a.peer, ...more });
    expect(accused({})).toMatchObject(suspect);
    expect([accused({ inc: said.inc + 1 }), accused({ boot: said.boot + 1 })]).toEqual([
      undefined,
      undefined,
    ]);
    expect(c.forged).toHaveLength(4);
    // What an earlier process of this node said, whose boot the disk has forgotten, is signed.
    c.announcements.outgoing({ type: "views", views: [{ ...said, boot: 1, inc: 0 }] });
    expect(hears(signed)).toEqual([signed]);
  });
});
