import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import {
  createMeshRoot,
  openAuthority,
  readAdoption,
  readCertificate,
  readPeerId,
  startEnrolment,
} from "@klatsch/mesh";
import type { MeshAuthority } from "@klatsch/mesh";
import { parseNoticesText } from "../../src/admission/notices.ts";

const PARENT: string = mkdtempSync(join(tmpdir(), "klatsch-misuse-"));
let root: MeshAuthority;
beforeAll(async () => {
  root = await createMeshRoot({ directory: join(PARENT, "root") });
});
afterAll(() => rmSync(PARENT, { recursive: true }));

const refusal = (field: string): unknown =>
  expect.objectContaining({
    name: "MeshError",
    code: "INVALID_OPTIONS",
    message: expect.stringMatching(`^${field}: .{1,200}$`),
  });
const directory = join(PARENT, "never");
const address = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWQWN4eDfn9ysbGPhrtMmUgFPyFmREWbmuzXUo5zMRhaE3";
const adoption = { address, code: "00000-00000-00000", name: "a" };
const enrolment = { dataDir: directory, listen: ["/ip4/127.0.0.1/tcp/0"], onCode: () => undefined };
const circular: Record<string, unknown> = {};
circular["self"] = circular;

const throwing = Object.defineProperty({}, "directory", {
  enumerable: true,
  get: () => {
    throw new Error("mine");
  },
});

/** What each call is given, and the field that the refusal names. */
const WRONG: Readonly<
  Record<string, readonly [(given: never) => unknown, readonly (readonly [string, unknown])[]]>
> = {
  createMeshRoot: [
    createMeshRoot,
    [
      ["options", undefined],
      ["directory", { directory: 5 }],
      ["directory", { directory: "" }],
      ["directory", { directory: "x".repeat(400_000) }],
      ["clock", { directory, clock: {} }],
      ["options", { directory, ["x".repeat(400_000)]: 1 }],
    ],
  ],
  openAuthority: [
    openAuthority,
    [
      ["options", throwing],
      ["options", null],
      ["directory", { directory: 5 }],
    ],
  ],
  readAdoption: [readAdoption, [["dataDir", 5]]],
  readPeerId: [readPeerId, [["dataDir", Symbol("a")]]],
  startEnrolment: [
    startEnrolment,
    [
      ["options", undefined],
      ["listen", { ...enrolment, listen: undefined }],
      ["listen", { ...enrolment, listen: [] }],
      ["listen\\[0\\]", { ...enrolment, listen: ["here"] }],
      ["onCode", { ...enrolment, onCode: undefined }],
      ["clock", { ...enrolment, clock: 5 }],
      ["logger", { ...enrolment, logger: 5 }],
      ["logger", { ...enrolment, logger: { warn: () => undefined } }],
      ["wrongPauseMs", { ...enrolment, wrongPauseMs: Number.NaN }],
    ],
  ],
  "root.delegate": [
    (given) => root.delegate(given),
    [
      ["options", undefined],
      ["directory", {}],
      ["lifeMs", { directory, lifeMs: "a year" }],
    ],
  ],
  "root.rotate": [
    (given) => root.rotate(given),
    [
      ["options", null],
      ["overlapMs", { overlapMs: -1 }],
    ],
  ],
  "root.revoke": [
    (given) => root.revoke(given),
    [
      ["subject", Symbol("a")],
      ["subject", [address.slice(-52)]],
      ["subject", "x"],
    ],
  ],
  "root.adopt": [
    (given) => root.adopt(given),
    [
      ["options", undefined],
      ["options", "x".repeat(200_000)],
      ["code", { ...adoption, code: 5 }],
      ["address", { ...adoption, address: undefined }],
      ["address", { ...adoption, address: address.repeat(1_000) }],
      ["name", { ...adoption, name: undefined }],
      ["signal", { ...adoption, signal: {} }],
      ["configuration", { ...adoption, configuration: 5n }],
      ["configuration", { ...adoption, configuration: circular }],
    ],
  ],
};
const CASES = Object.entries(WRONG).flatMap(([name, [call, given]]) =>
  given.map(([field, value]) => ({ name, field, call, value })),
);

describe("what plain JavaScript passes by mistake", () => {
  it.each(CASES)("$name refuses with the field's name: $field", async ({ field, call, value }) => {
    await expect((async () => await call(value as never))()).rejects.toEqual(refusal(field));
  });

  it.each([null, 5, [], {}, "x"])("is no certificate: %o", (given) => {
    const read = (): unknown => readCertificate(given as string);
    expect(read).toThrow(expect.objectContaining({ code: "CERTIFICATE_INVALID" }));
  });

  it("is no revocation or rotation", () => {
    expect(parseNoticesText(5 as never)).toBeUndefined();
  });

  it("is a file where a directory should be", async () => {
    const file = join(PARENT, "root", "mesh.json");
    const failed = expect.objectContaining({ code: "STORE_FAILED" });
    await expect(createMeshRoot({ directory: join(file, "x") })).rejects.toEqual(failed);
    await expect(root.delegate({ directory: join(file, "x") })).rejects.toEqual(failed);
  });
});
