import { chmod } from "node:fs/promises";
import { join } from "node:path";
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from "@libp2p/crypto/keys";
import type { Ed25519PrivateKey } from "@libp2p/interface";
import { MeshError } from "../errors.ts";
import { createDurably, readIfPresent } from "./files.ts";

/**
 * Reads an Ed25519 key; `undefined` if there is no such file.
 * @throws MeshError `IDENTITY_DAMAGED` with `advice`; `STORE_FAILED` if it cannot be read, which is no reason to remove it.
 */
export async function readKey(
  directory: string,
  name: string,
  advice: string,
): Promise<Ed25519PrivateKey | undefined> {
  const file = join(directory, name);
  const bytes = await readIfPresent(file);
  if (bytes === undefined) return undefined;
  try {
    const key = privateKeyFromProtobuf(bytes);
    if (key.type !== "Ed25519") throw new Error(`a key of type ${key.type}`);
    await chmod(file, 0o600); // A copy or a restore may have opened it up.
    return key;
  } catch (cause) {
    throw new MeshError("IDENTITY_DAMAGED", `${file} is no Ed25519 key; ${advice}`, { cause });
  }
}

/** Makes a key and its file, mode 0600. Where somebody else makes one at the same time, all get the same. */
export async function makeKey(directory: string, name: string, advice: string): Promise<Ed25519PrivateKey> {
  const made = await generateKeyPair("Ed25519");
  if (await createDurably(directory, name, privateKeyToProtobuf(made))) return made;
  return (await readKey(directory, name, advice)) ?? (await makeKey(directory, name, advice));
}
