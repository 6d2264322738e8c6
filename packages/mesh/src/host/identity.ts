import { randomBytes } from "node:crypto";
import { chmod, mkdir, open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from "@libp2p/crypto/keys";
import type { Ed25519PrivateKey } from "@libp2p/interface";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { MeshError } from "../errors.ts";

/** Who this node is, across restarts. */
export interface Identity {
  readonly peerId: string;
  readonly privateKey: Ed25519PrivateKey;
  /** Makes `boot` durable; resolves once it is synced. */
  saveBoot(boot: number): Promise<void>;
  /** The boot of the last start; 0 at the first. */
  readonly lastBoot: number;
}

const KEY_FILE = "identity.key";
const BOOT_FILE = "boot";

/** Reads the identity in `dataDir`, or makes one. @throws MeshError `IDENTITY_DAMAGED` naming the file. */
export async function loadIdentity(dataDir: string): Promise<Identity> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  const privateKey = await loadKey(dataDir);
  const lastBoot = await loadBoot(join(dataDir, BOOT_FILE));
  return {
    peerId: peerIdFromPrivateKey(privateKey).toString(),
    privateKey,
    lastBoot,
    saveBoot: (boot) => writeDurably(dataDir, BOOT_FILE, new TextEncoder().encode(`${boot}\n`), 0o600),
  };
}

async function loadKey(dataDir: string): Promise<Ed25519PrivateKey> {
  const file = join(dataDir, KEY_FILE);
  const bytes = await readIfPresent(file);
  if (bytes === undefined) {
    const made = await generateKeyPair("Ed25519");
    await writeDurably(dataDir, KEY_FILE, privateKeyToProtobuf(made), 0o600);
    return made;
  }
  try {
    const key = privateKeyFromProtobuf(bytes);
    if (key.type !== "Ed25519") throw new Error(`a key of type ${key.type}`);
    await chmod(file, 0o600); // A copy or a restore may have opened it up.
    return key;
  } catch (error) {
    throw damaged(
      file,
      "is no Ed25519 key; restore it from a backup, or remove it to become a new peer",
      error,
    );
  }
}

async function loadBoot(file: string): Promise<number> {
  const bytes = await readIfPresent(file);
  if (bytes === undefined) return 0;
  const text = new TextDecoder().decode(bytes).trim();
  const boot = Number(text);
  if (!/^\d{1,16}$/u.test(text) || !Number.isSafeInteger(boot)) {
    // Not fatal for safety: peers report the boot they know. But somebody should look at that disk.
    throw damaged(file, "is no number; remove it, and the mesh will tell the last one", undefined);
  }
  return boot;
}

function damaged(file: string, what: string, cause: unknown): MeshError {
  return new MeshError("IDENTITY_DAMAGED", `${file} ${what}`, { cause });
}

async function readIfPresent(file: string): Promise<Uint8Array | undefined> {
  try {
    return await readFile(file);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw damaged(file, "cannot be read", error);
  }
}

/** Writes beside, syncs, renames, syncs the directory: after a crash there is the old file or the new one. */
async function writeDurably(directory: string, name: string, bytes: Uint8Array, mode: number): Promise<void> {
  const beside = join(directory, `${name}.${randomBytes(4).toString("hex")}.new`);
  const file = await open(beside, "wx", mode);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(beside, join(directory, name));
  const folder = await open(directory, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
