import { chmod, stat } from "node:fs/promises";
import { join } from "node:path";
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from "@libp2p/crypto/keys";
import type { Ed25519PrivateKey } from "@libp2p/interface";
import { fileFailed, MeshError } from "../errors.ts";
import { createDurably, readIfPresent } from "./files.ts";

/** What others than the owner may do. */
const OTHERS = 0o077;

/**
 * Reads an Ed25519 key; `undefined` if there is no such file.
 * @throws MeshError `IDENTITY_DAMAGED` with `advice`; `STORE_FAILED` if it cannot be read, or kept from others,
 * which is no reason to remove it.
 */
export async function readKey(
  directory: string,
  name: string,
  advice: string,
): Promise<Ed25519PrivateKey | undefined> {
  const file = join(directory, name);
  const bytes = await readIfPresent(file);
  if (bytes === undefined) return undefined;
  const key = decode(file, bytes, advice);
  await keepFromOthers(file).catch((error: unknown) => {
    throw fileFailed(`cannot keep others from reading ${file}`, error);
  });
  return key;
}

function decode(file: string, bytes: Uint8Array, advice: string): Ed25519PrivateKey {
  try {
    const key = privateKeyFromProtobuf(bytes);
    if (key.type !== "Ed25519") throw new Error(`a key of type ${key.type}`);
    return key;
  } catch (cause) {
    throw new MeshError("IDENTITY_DAMAGED", `${file} is no Ed25519 key; ${advice}`, { cause });
  }
}

/** A copy or a restore may have opened it up. Only then: a disk may be there to be read, not written. */
async function keepFromOthers(file: string): Promise<void> {
  const { mode } = await stat(file);
  if ((mode & OTHERS) !== 0) await chmod(file, 0o600);
}

/** Makes a key and its file, mode 0600. Where somebody else makes one at the same time, all get the same. */
export async function makeKey(directory: string, name: string, advice: string): Promise<Ed25519PrivateKey> {
  const made = await generateKeyPair("Ed25519");
  if (await createDurably(directory, name, privateKeyToProtobuf(made))) return made;
  return (await readKey(directory, name, advice)) ?? (await makeKey(directory, name, advice));
}
