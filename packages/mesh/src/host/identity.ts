import { join } from "node:path";
import type { Ed25519PrivateKey } from "@libp2p/interface";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { MeshError } from "../errors.ts";
import { makeDirectory, readIfPresent, writeDurably } from "./files.ts";
import { makeKey, readKey } from "./key-file.ts";

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

/** Reads the identity in `dataDir`, or makes one; with a `given` key only the boot is there. @throws MeshError `IDENTITY_DAMAGED` naming the file. */
export async function loadIdentity(dataDir: string, given?: Ed25519PrivateKey): Promise<Identity> {
  await makeDirectory(dataDir);
  const advice = "restore it from a backup, or remove it to become a new peer";
  const privateKey =
    given ?? (await readKey(dataDir, KEY_FILE, advice)) ?? (await makeKey(dataDir, KEY_FILE, advice));
  const lastBoot = await loadBoot(join(dataDir, BOOT_FILE));
  return {
    peerId: peerIdFromPrivateKey(privateKey).toString(),
    privateKey,
    lastBoot,
    saveBoot: (boot) => writeDurably(dataDir, BOOT_FILE, new TextEncoder().encode(`${boot}\n`)),
  };
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
