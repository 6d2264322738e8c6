/** Commands about keys and certificates: of a mesh's authority, and of nodes that wait for it. */
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { createMeshRoot, openAuthority, readCertificate, readPeerId, startEnrolment } from "@klatsch/mesh";
import type { CertificateDescription } from "@klatsch/mesh";
import type { Client } from "../client.ts";
import { tagsOf } from "../config.ts";
import { NodeError } from "../errors.ts";
import { table } from "../format.ts";
import { stderrLogger } from "../logger.ts";
import { connectTo, printJson } from "./node.ts";
import type { NodeFlags } from "./node.ts";

const DAY_MS: number = 24 * 60 * 60 * 1_000;
const MINUTE_MS = 60_000;
/** Longest text of revocations that is read from standard input, in bytes. */
const TEXT_BYTES_MAX: number = 4 * 1_024 * 1_024;

/** Where the key of a mesh is. */
interface AuthorityFlags {
  readonly authority: string;
}

/** What a certificate is to say. */
interface CertificateFlags extends AuthorityFlags {
  readonly name: string;
  readonly cloud?: string;
  readonly tag?: readonly string[];
  readonly capability?: readonly string[];
  readonly days?: number;
}

function describe({ name, cloud, tag, capability, days }: CertificateFlags): CertificateDescription {
  const tags = tagsOf(tag ?? []);
  return { name, cloud, tags, capabilities: capability, lifeMs: lifeOf(days) };
}

function lifeOf(days: number | undefined): number | undefined {
  return days === undefined ? undefined : days * DAY_MS;
}

export async function createRoot(flags: AuthorityFlags): Promise<void> {
  const directory = resolve(flags.authority);
  const root = await createMeshRoot({ directory });
  console.log(`mesh ${root.meshId}`);
  console.log(`its root key is in ${directory}; keep that off the nodes`);
  console.log(`move root-1.key somewhere safer still: it is needed only to replace the root key`);
}

export async function delegate(
  directory: string,
  flags: AuthorityFlags & { readonly days?: number },
): Promise<void> {
  const root = await openAuthority({ directory: resolve(flags.authority) });
  await root.delegate({ directory: resolve(directory), lifeMs: lifeOf(flags.days) });
  const admin = await openAuthority({ directory: resolve(directory) });
  console.log(`${admin.keyId} may issue and revoke certificates`);
}

export async function rotate(
  flags: AuthorityFlags & NodeFlags & { readonly overlapDays?: number },
): Promise<void> {
  const root = await openAuthority({ directory: resolve(flags.authority) });
  await tell(flags, () => root.rotate({ overlapMs: lifeOf(flags.overlapDays) }));
}

export async function publish(flags: NodeFlags): Promise<void> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > TEXT_BYTES_MAX)
      throw new NodeError("USAGE", `standard input: more than ${TEXT_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  await using client = await connectTo(flags);
  await publishBy(client, Buffer.concat(chunks).toString());
}

export async function issue(flags: CertificateFlags & { readonly peer: string }): Promise<void> {
  const authority = await openAuthority({ directory: resolve(flags.authority) });
  console.log(authority.issueCertificate({ ...describe(flags), peer: flags.peer }));
}

export async function show(file: string, flags: { readonly json?: true }): Promise<void> {
  const text = await readFile(file, "utf8").catch((error: unknown) => {
    throw new NodeError("USAGE", `file: cannot read ${file}: ${(error as Error).message}`);
  });
  const { tags, capabilities, notBeforeWallMs, notAfterWallMs, ...rest } = readCertificate(text);
  if (flags.json === true) {
    printJson({ ...rest, tags, capabilities, notBeforeWallMs, notAfterWallMs });
    return;
  }
  const rows = Object.entries({
    ...rest,
    tags: Object.entries(tags)
      .map(([key, value]) => `${key}=${value}`)
      .join(" "),
    capabilities: capabilities.join(" "),
    "valid from": new Date(notBeforeWallMs).toISOString(),
    "valid until": new Date(notAfterWallMs).toISOString(),
  });
  console.log(
    table(
      ["FIELD", "VALUE"],
      rows.map(([field, value]) => [field, value ?? "-"]),
    ),
  );
}

export async function revoke(subject: string, flags: AuthorityFlags & NodeFlags): Promise<void> {
  const authority = await openAuthority({ directory: resolve(flags.authority) });
  await tell(flags, () => authority.revoke(subject));
}

/**
 * Changes the authority, and tells it to a node if one is named; else prints the text, for `klatsch mesh publish`.
 * Nothing changes where that node does not run: what an authority has changed it says again with its next rotation at the earliest.
 */
async function tell(flags: NodeFlags, change: () => Promise<string>): Promise<void> {
  if (flags.data === undefined && flags.socket === undefined) {
    console.log(await change());
    return;
  }
  await using client = await connectTo(flags);
  await client.call("status", {});
  const text = await change();
  try {
    await publishBy(client, text);
  } catch (error) {
    console.log(text);
    console.error('the node does not have it: give the text to "klatsch mesh publish"');
    throw error;
  }
}

async function publishBy(client: Client, text: string): Promise<void> {
  await client.call("admission.publish", { text });
  console.log("the node has it, and tells the others");
}

export async function peerId(flags: { readonly data: string }): Promise<void> {
  console.log(await readPeerId(resolve(flags.data)));
}

export async function adopt(
  address: string,
  code: string,
  flags: CertificateFlags & { readonly bootstrap?: readonly string[] },
): Promise<void> {
  const authority = await openAuthority({ directory: resolve(flags.authority) });
  const configuration = { bootstrap: flags.bootstrap ?? [] };
  const { peerId } = await authority.adopt({ ...describe(flags), address, code, configuration });
  console.log(`${flags.name} is ${peerId} and a member of mesh ${authority.meshId}`);
}

/** Waits to be adopted. Resolves once that has happened, or with `false` once `ending` has aborted. */
export async function waitForAdoption(
  flags: { readonly data: string; readonly listen: readonly string[] },
  ending: AbortSignal,
): Promise<boolean> {
  const enrolment = await startEnrolment({
    dataDir: resolve(flags.data),
    listen: flags.listen,
    logger: stderrLogger(),
    onCode: (code, validForMs) =>
      console.log(`code ${code}, for ${Math.round(validForMs / MINUTE_MS)} minutes`),
  });
  console.log("waiting to be adopted: klatsch adopt ADDRESS CODE --authority DIR --name NAME, with");
  for (const address of enrolment.addresses()) console.log(`  ${address}`);
  const stopped = Promise.withResolvers<undefined>();
  const stop = (): void => void enrolment.stop().then(() => stopped.resolve(undefined), stopped.reject);
  ending.addEventListener("abort", stop);
  if (ending.aborted) stop();
  const adoption = await Promise.race([enrolment.adopted, stopped.promise]);
  ending.removeEventListener("abort", stop);
  if (adoption === undefined) return false;
  console.log(`adopted into mesh ${adoption.meshId}`);
  return true;
}
