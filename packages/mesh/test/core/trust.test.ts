import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Revocations } from "../../src/core/trust/revocations.ts";
import { RootChain } from "../../src/core/trust/root-chain.ts";
import { RENEWABLE_MS, ROTATIONS_MAX } from "../../src/core/trust/statements.ts";
import type {
  Certificate,
  Credentials,
  Delegation,
  Endorsed,
  Renewal,
  Revocation,
  Rotation,
  Signed,
} from "../../src/core/trust/statements.ts";
import { Trust } from "../../src/core/trust/trust.ts";

const DAY_MS = 24 * 60 * 60 * 1_000;
const NOW = 1_000 * DAY_MS;
const MESH = "m";
const GENESIS = { root: "root-0", nextHash: "h:root-1" };

let lastId = 0;
/** Who signs is what decides here; that signatures are right was found when the bytes were read. */
function signed<Body>(signer: string, body: Body, id?: string): Signed<Body> {
  lastId += 1;
  return { body, signer, id: id ?? lastId.toString(16), envelope: "" };
}

function endorsed<Body>(signer: string, body: Body, delegation?: Signed<Delegation>): Endorsed<Body> {
  return { statement: signed(signer, body), delegation };
}

function certificate(over: Partial<Certificate> = {}): Certificate {
  return {
    mesh: MESH,
    peer: "p",
    name: "p",
    cloud: "c",
    tags: {},
    capabilities: ["*"],
    serial: "s",
    notBeforeWallMs: NOW,
    notAfterWallMs: NOW + 90 * DAY_MS,
    ...over,
  };
}

function credentials(over: Partial<Credentials> = {}): Credentials {
  return {
    mesh: MESH,
    genesis: GENESIS,
    rotations: [],
    certificate: endorsed("root-0", certificate()),
    renewal: undefined,
    ...over,
  };
}

function delegation(key: string, over: Partial<Delegation> = {}): Signed<Delegation> {
  const validity = { notBeforeWallMs: NOW, notAfterWallMs: NOW + 300 * DAY_MS };
  return signed("root-0", { mesh: MESH, key, ...validity, ...over });
}

function rotation(seq: number, over: Partial<Rotation> = {}): Signed<Rotation> {
  const key = over.key ?? `root-${seq}`;
  const body = { mesh: MESH, seq, key, keyHash: `h:${key}`, nextHash: `h:root-${seq + 1}` };
  return signed(key, { ...body, atWallMs: NOW + seq * DAY_MS, overlapMs: 30 * DAY_MS, ...over });
}

function revocation(subject: string, atWallMs = NOW): Revocation {
  return { mesh: MESH, subject, atWallMs };
}

function codeOf(trust: Trust, shown: Credentials, wallMs = NOW, peer = "p"): string {
  const verdict = trust.judge(shown, peer, wallMs);
  return "code" in verdict ? verdict.code : `until day ${(verdict.admitted.notAfterWallMs - NOW) / DAY_MS}`;
}

describe("a chain of roots", () => {
  it("always goes to the committed key and to no other, whatever comes in whatever order", () => {
    const step = fc.record({
      seq: fc.integer({ min: 0, max: 6 }),
      key: fc.constantFrom("root-1", "root-2", "root-3", "root-4", "thief"),
      overlapMs: fc.constantFrom(0, 30 * DAY_MS),
      mesh: fc.constantFrom(MESH, MESH, "other"),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const chain = new RootChain(MESH, GENESIS);
        for (const { seq, ...over } of steps) {
          const before = chain.seq;
          const outcome = chain.add(rotation(seq, over));
          expect(chain.seq).toBe(outcome === "added" ? before + 1 : before);
          expect(chain.current).toBe(`root-${chain.seq}`);
          expect(chain.isTrusted("thief", NOW)).toBe(false);
        }
      }),
    );
  });

  it("knows a rotation again, tells a fork from a forgery, and has an end", () => {
    const chain = new RootChain(MESH, GENESIS);
    const first = rotation(1);
    expect([chain.add(first), chain.add(first)]).toEqual(["added", "known"]);
    expect(chain.add(rotation(1, { nextHash: "h:x" }))).toBe("forked");
    expect(chain.add(rotation(1, { key: "thief" }))).toBe("refused");
    expect(chain.add({ ...rotation(2), signer: "root-1" })).toBe("refused");
    for (let seq = 2; seq <= ROTATIONS_MAX; seq += 1) expect(chain.add(rotation(seq))).toBe("added");
    expect(chain.add(rotation(ROTATIONS_MAX + 1))).toBe("refused");
  });

  it("lets an old root count for the overlap, or less if a later rotation says so", () => {
    const chain = new RootChain(MESH, GENESIS);
    chain.add(rotation(1, { atWallMs: NOW, overlapMs: 30 * DAY_MS }));
    expect([30, 31].map((day) => chain.isTrusted("root-0", NOW + day * DAY_MS))).toEqual([true, false]);
    chain.add(rotation(2, { atWallMs: NOW + DAY_MS, overlapMs: 0 }));
    expect(["root-0", "root-1", "root-2"].map((key) => chain.isTrusted(key, NOW + 2 * DAY_MS))).toEqual([
      false,
      false,
      true,
    ]);
  });
});

describe("revocations", () => {
  it("always come to the same set and digest, in any order and however often", () => {
    const subjects = fc.array(fc.integer({ min: 0, max: 20 }), { maxLength: 40 });
    fc.assert(
      fc.property(subjects, subjects, (some, others) => {
        const entry = (no: number): Endorsed<Revocation> => ({
          statement: signed("root-0", revocation(`p${no}`), (no + 1).toString(16).repeat(3)),
          delegation: undefined,
        });
        const [left, right] = [new Revocations(), new Revocations()];
        for (const no of [...some, ...others]) left.add(entry(no));
        for (const no of [...others, ...some].toReversed()) right.add(entry(no));
        expect(right.digest).toBe(left.digest);
        expect([...some, ...others].every((no) => left.has(`p${no}`) && right.has(`p${no}`))).toBe(true);
      }),
    );
  });

  it("never lose one that could still forbid something", () => {
    const set = new Revocations();
    set.add(endorsed("root-0", revocation("p", NOW)));
    set.prune(NOW + RENEWABLE_MS);
    expect(set.has("p")).toBe(true);
    set.prune(NOW + RENEWABLE_MS + 1);
    expect([set.has("p"), set.digest]).toEqual([false, "0"]);
  });

  it("of an admin stop at its share, so that the root's still find room", () => {
    const set = new Revocations();
    const outcomes = Array.from({ length: 1_025 }, (_, no) =>
      set.add(endorsed("admin", revocation(`p${no}`), delegation("admin"))),
    );
    expect([outcomes[1_023], outcomes[1_024]]).toEqual(["added", "full"]);
    expect(set.add(endorsed("root-0", revocation("q")))).toBe("added");
  });

  it("are taken from root and admins of the mesh only, and not from the future", () => {
    const trust = new Trust(MESH, GENESIS);
    const admin = delegation("admin");
    const take = (signer: string, body: Revocation, by?: Signed<Delegation>): string =>
      trust.revoke(endorsed(signer, body, by), NOW);
    expect(take("p", revocation("q"))).toBe("refused");
    expect(take("admin", revocation("q"))).toBe("refused");
    expect(take("admin", revocation("q"), delegation("other"))).toBe("refused");
    expect(take("root-0", { ...revocation("q"), mesh: "other" })).toBe("refused");
    expect(take("root-0", revocation("q", NOW + DAY_MS))).toBe("refused");
    expect(take("root-0", revocation("q", NOW - RENEWABLE_MS - DAY_MS))).toBe("refused");
    expect(take("admin", revocation("q"), admin)).toBe("added");
    // An admin cannot end another admin; the root can, and then nothing new is taken from that one.
    expect(take("admin", revocation("admin-2"), admin)).toBe("added");
    const byOther = { certificate: endorsed("admin-2", certificate(), delegation("admin-2")) };
    expect(codeOf(trust, credentials(byOther))).toBe("until day 90");
    expect(take("root-0", revocation("admin"))).toBe("added");
    expect(take("admin", revocation("r"), admin)).toBe("refused");
    expect(trust.revocations.has("q")).toBe(true);
  });
});

describe("credentials", () => {
  it("are judged by issuer, peer, revocation and time", () => {
    const trust = new Trust(MESH, GENESIS);
    expect(codeOf(trust, credentials())).toBe("until day 90");
    expect(codeOf(trust, credentials(), NOW, "q")).toBe("WRONG_PEER");
    expect(codeOf(trust, credentials({ mesh: "other" }))).toBe("FOREIGN_MESH");
    const by = (signer: string, over: Partial<Certificate> = {}, given?: Signed<Delegation>): string =>
      codeOf(trust, credentials({ certificate: endorsed(signer, certificate(over), given) }));
    expect(by("root-0", { mesh: "other" })).toBe("FOREIGN_MESH");
    expect(by("thief")).toBe("UNTRUSTED_ISSUER");
    expect(by("thief", {}, delegation("admin"))).toBe("UNTRUSTED_ISSUER");
    expect(by("thief", {}, signed("thief", delegation("thief").body))).toBe("UNTRUSTED_ISSUER");
    expect(by("admin", {}, delegation("admin", { mesh: "other" }))).toBe("UNTRUSTED_ISSUER");
    expect(by("admin", {}, delegation("admin"))).toBe("until day 90");
    expect(by("admin", {}, delegation("admin", { notAfterWallMs: NOW + DAY_MS }))).toBe("until day 1");
    const over = { notBeforeWallMs: NOW - 9 * DAY_MS, notAfterWallMs: NOW - 8 * DAY_MS };
    expect(by("admin", {}, delegation("admin", over))).toBe("EXPIRED");
    const at = (minutes: number): string => codeOf(trust, credentials(), NOW + minutes * 60_000);
    expect([-6, -4].map(at)).toEqual(["NOT_YET_VALID", "until day 90"]);
    expect([90 * 24 * 60 + 4, 90 * 24 * 60 + 6].map(at)).toEqual(["until day 90", "EXPIRED"]);
  });

  it("end with their key, with their serial, or with the admin that issued them", () => {
    for (const subject of ["p", "s", "admin"]) {
      const trust = new Trust(MESH, GENESIS);
      const shown = credentials({ certificate: endorsed("admin", certificate(), delegation("admin")) });
      expect(codeOf(trust, shown)).toBe("until day 90");
      trust.revoke(endorsed("root-0", revocation(subject)), NOW);
      expect(codeOf(trust, shown)).toBe("REVOKED");
    }
  });

  it("bring the rotations along that they rest on, and end with a root that is gone", () => {
    const trust = new Trust(MESH, GENESIS);
    const byNew = { certificate: endorsed("root-1", certificate()) };
    expect(codeOf(trust, credentials(byNew))).toBe("UNTRUSTED_ISSUER");
    const rotations = [rotation(1, { atWallMs: NOW, overlapMs: DAY_MS })];
    expect(codeOf(trust, credentials({ ...byNew, rotations }))).toBe("until day 90");
    expect(codeOf(trust, credentials(), NOW + DAY_MS)).toBe("until day 90");
    expect(codeOf(trust, credentials(), NOW + 2 * DAY_MS)).toBe("UNTRUSTED_ISSUER");
  });
});

describe("a renewal", () => {
  const CA = certificate({
    peer: "ca",
    serial: "t",
    capabilities: ["ca"],
    notAfterWallMs: NOW + 200 * DAY_MS,
  });

  function renewed(
    over: { renewal?: Partial<Renewal>; ca?: Partial<Certificate>; signer?: string } = {},
  ): Credentials {
    const body: Renewal = {
      mesh: MESH,
      peer: "p",
      serial: "s",
      notBeforeWallMs: NOW + 60 * DAY_MS,
      notAfterWallMs: NOW + 150 * DAY_MS,
      ...over.renewal,
    };
    const issuer = endorsed("root-0", { ...CA, ...over.ca });
    return credentials({ renewal: { statement: signed(over.signer ?? "ca", body), issuer } });
  }

  it("prolongs, and says nothing else", () => {
    const trust = new Trust(MESH, GENESIS);
    expect(codeOf(trust, renewed(), NOW + 100 * DAY_MS)).toBe("until day 150");
    const verdict = trust.judge(renewed(), "p", NOW + 100 * DAY_MS);
    expect(verdict).toMatchObject({ admitted: { certificate: certificate() } });
  });

  it.each([
    ["of another certificate", { renewal: { serial: "other" } }],
    ["of another peer", { renewal: { peer: "q" } }],
    ["of another mesh", { renewal: { mesh: "other" } }],
    ["not begun", { renewal: { notBeforeWallMs: NOW + 120 * DAY_MS } }],
    ["by somebody without ca", { ca: { capabilities: ["*"] } }],
    ["by somebody else than the certificate says", { signer: "q" }],
    ["by a member whose certificate is over", { ca: { notAfterWallMs: NOW + 99 * DAY_MS } }],
    ["by a member of another mesh", { ca: { mesh: "other" } }],
  ])("%s is void", (_why, over) => {
    expect(codeOf(new Trust(MESH, GENESIS), renewed(over), NOW + 100 * DAY_MS)).toBe("EXPIRED");
  });

  it("is void when who gave it is revoked, and never outlives what a revocation is kept for", () => {
    const trust = new Trust(MESH, GENESIS);
    const late = NOW + RENEWABLE_MS - DAY_MS;
    const ca = { notBeforeWallMs: late - DAY_MS, notAfterWallMs: late + 300 * DAY_MS };
    const over = { renewal: { notBeforeWallMs: late - DAY_MS, notAfterWallMs: late + 90 * DAY_MS }, ca };
    expect(codeOf(trust, renewed(over), late)).toBe(`until day ${RENEWABLE_MS / DAY_MS}`);
    trust.revoke(endorsed("root-0", revocation("ca")), NOW);
    expect(codeOf(trust, renewed(), NOW + 100 * DAY_MS)).toBe("EXPIRED");
  });
});
