import { join } from "node:path";
import { z } from "zod";
import { PEER_PATTERN } from "../codec/record-codec.ts";
import { HASH_PATTERN, meshIdOf } from "../codec/statement-codec.ts";
import { REVOCATIONS_MAX } from "../core/trust/revocations.ts";
import { RootChain } from "../core/trust/root-chain.ts";
import { ROTATIONS_MAX } from "../core/trust/statements.ts";
import type {
  Delegation,
  Endorsed,
  Genesis,
  Revocation,
  Rotation,
  Signed,
} from "../core/trust/statements.ts";
import { MeshError } from "../errors.ts";
import { readIfPresent, writeDurably } from "../host/files.ts";
import { openEndorsed } from "./credentials.ts";
import { openStatement } from "./envelope.ts";

const FILE = "mesh.json";

/** What lies beside a root or admin key. */
export interface AuthorityFile {
  readonly genesis: Genesis;
  readonly rotations: readonly Signed<Rotation>[];
  /** What makes an admin key one; the root has none. */
  readonly delegation: Signed<Delegation> | undefined;
  readonly revocations: readonly Endorsed<Revocation>[];
}

const endorsed = z.strictObject({ statement: z.string(), delegation: z.string() });
const schema = z.strictObject({
  version: z.literal(1),
  mesh: z.string().regex(HASH_PATTERN),
  root: z.string().regex(PEER_PATTERN),
  nextHash: z.string().regex(HASH_PATTERN),
  rotations: z.array(z.string()).max(ROTATIONS_MAX),
  delegation: z.string().optional(),
  revocations: z.array(endorsed).max(REVOCATIONS_MAX),
});

/** Whether the directory belongs to no mesh yet. */
export async function isMissing(directory: string): Promise<boolean> {
  return (await readIfPresent(join(directory, FILE))) === undefined;
}

export async function writeAuthorityFile(directory: string, file: AuthorityFile): Promise<void> {
  const { genesis, rotations, delegation, revocations } = file;
  const text: z.infer<typeof schema> = {
    version: 1,
    mesh: meshIdOf(genesis),
    ...genesis,
    rotations: rotations.map(({ envelope }) => envelope),
    ...(delegation === undefined ? {} : { delegation: delegation.envelope }),
    revocations: revocations.map((entry) => ({
      statement: entry.statement.envelope,
      delegation: entry.delegation?.envelope ?? "",
    })),
  };
  await writeDurably(directory, FILE, Buffer.from(`${JSON.stringify(text, undefined, 2)}\n`));
}

/** @throws MeshError `AUTHORITY_INVALID`. */
export async function readAuthorityFile(directory: string): Promise<AuthorityFile> {
  const path = join(directory, FILE);
  const bytes = await readIfPresent(path);
  if (bytes === undefined) {
    throw new MeshError("AUTHORITY_INVALID", `${directory} holds no key of a mesh: there is no ${FILE}`);
  }
  try {
    return parse(schema.parse(JSON.parse(Buffer.from(bytes).toString())));
  } catch (cause) {
    throw new MeshError("AUTHORITY_INVALID", `${path} is damaged; restore it from a backup`, { cause });
  }
}

function parse(text: z.infer<typeof schema>): AuthorityFile {
  const genesis: Genesis = { root: text.root, nextHash: text.nextHash };
  if (meshIdOf(genesis) !== text.mesh) throw new Error("the id does not fit the keys");
  const chain = new RootChain(text.mesh, genesis);
  for (const envelope of text.rotations) {
    if (chain.add(whole(openStatement("rotation", envelope))) !== "added") throw new Error("a bad rotation");
  }
  return {
    genesis,
    rotations: chain.rotations,
    delegation:
      text.delegation === undefined ? undefined : whole(openStatement("delegation", text.delegation)),
    revocations: text.revocations.map((entry) => whole(openEndorsed("revocation", entry))),
  };
}

function whole<Value>(value: Value | undefined): Value {
  if (value === undefined) throw new Error("a bad signature");
  return value;
}
