/** What a node is told by flags and a file. Flags win. */
import { readFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import type { Adoption, MeshInit } from "@klatsch/mesh";
import { NodeError } from "./errors.ts";
import { Fields } from "./fields.ts";

/** A unix socket's path has to fit into the kernel's `sun_path`, in bytes; the smallest of the systems we know. */
const SOCKET_PATH_BYTES_MAX = 103;
const SOCKET_NAME = "klatsch.sock";

export interface NodeConfig {
  readonly mesh: Omit<MeshInit, "logger" | "clock" | "random">;
  /** Path of the unix socket for commands. */
  readonly socket: string;
}

/** Flags of `up`. A field of the file has the name of the flag's long form. */
export interface UpFlags {
  readonly name?: string;
  readonly data?: string;
  readonly listen?: readonly string[];
  readonly announce?: readonly string[];
  readonly bootstrap?: readonly string[];
  readonly mesh?: string;
  readonly joinAny?: true;
  readonly cloud?: string;
  readonly tag?: readonly string[];
  readonly admission?: string;
  readonly certificate?: string;
  readonly socket?: string;
  readonly config?: string;
}

const FIELDS = [
  "name",
  "data",
  "listen",
  "announce",
  "bootstrap",
  "mesh",
  "joinAny",
  "cloud",
  "tags",
  "admission",
  "certificate",
  "socket",
] as const;

/** @throws NodeError `USAGE` naming the field. */
export async function readConfig(flags: UpFlags): Promise<NodeConfig> {
  const { config: file, tag, ...given } = flags;
  const written = file === undefined ? {} : await readConfigFile(file);
  const tags = tag === undefined ? {} : { tags: tagsOf(tag) };
  const merged = new Fields({ ...written, ...tags, ...given }, "", "USAGE").only(...FIELDS);
  const dataDir = resolve(merged.requiredText("data"));
  const { readAdoption } = await import("@klatsch/mesh"); // Whoever only asks for a socket's path has no use for it.
  const adoption = await readAdoption(dataDir);
  const admission = await readAdmission(merged, adoption !== undefined);
  const isOpen = admission === undefined || admission === "open";
  return {
    socket: socketPath({ data: dataDir, socket: merged.text("socket") }),
    mesh: {
      name: isOpen ? merged.requiredText("name") : merged.text("name"), // A certificate says it otherwise.
      dataDir,
      listen: merged.texts("listen"),
      announce: merged.texts("announce"),
      bootstrap: merged.texts("bootstrap") ?? bootstrapOf(adoption),
      mesh: merged.text("mesh"),
      joinAny: merged.flag("joinAny") ? {} : undefined,
      cloud: merged.text("cloud"),
      tags: merged.textByName("tags"),
      admission,
    },
  };
}

/** Tags by `key=value`. @throws NodeError `USAGE`. */
export function tagsOf(pairs: readonly string[]): Readonly<Record<string, string>> {
  return Object.fromEntries(pairs.map((text) => pairOf(text, "tag: must be key=value")));
}

/** What is left and right of the first `=`. @throws NodeError `USAGE`. */
export function pairOf(text: string, rule: string): readonly [string, string] {
  const at = text.indexOf("=");
  if (at < 1) throw new NodeError("USAGE", `${rule}, not ${text}`);
  return [text.slice(0, at), text.slice(at + 1)];
}

/** A node that was adopted, or is given a certificate, is of a mesh of certificates. */
async function readAdmission(fields: Fields, isAdopted: boolean): Promise<MeshInit["admission"]> {
  const admission = fields.text("admission");
  if (admission !== undefined && admission !== "open" && admission !== "certificate") {
    throw new NodeError("USAGE", 'admission: must be "open" or "certificate"');
  }
  const file = fields.text("certificate");
  if (file === undefined) return admission ?? (isAdopted ? "certificate" : undefined);
  if (admission === "open") throw new NodeError("USAGE", "certificate: has no use where admission is open");
  const certificate = await readFile(file, "utf8").catch((error: unknown) => {
    throw new NodeError("USAGE", `certificate: cannot read ${file}: ${(error as Error).message}`);
  });
  return { certificate };
}

/** Where its adopter told the node to join. */
function bootstrapOf(adoption: Adoption | undefined): readonly string[] | undefined {
  if (adoption === undefined) return undefined;
  return new Fields(adoption.configuration, "configuration of the adoption: ", "USAGE").texts("bootstrap");
}

/** The fields of a file; its relative paths start where the file is. */
async function readConfigFile(file: string): Promise<Readonly<Record<string, unknown>>> {
  const text = await readFile(file, "utf8").catch((error: unknown) => {
    throw new NodeError("USAGE", `config: cannot read ${file}: ${(error as Error).message}`);
  });
  let value: unknown;
  try {
    value = JSON.parse(text.replace(/^\uFEFF/u, "")); // The mark of some editors: a message would show nothing there.
  } catch (error) {
    throw new NodeError("USAGE", `config: ${file} is not JSON: ${(error as Error).message}`);
  }
  const fields = new Fields(value, `config: ${file}: `, "USAGE").only(...FIELDS);
  const paths: Record<string, string> = {};
  for (const name of ["data", "socket", "certificate"]) {
    const path = fields.text(name);
    if (path === "") throw new NodeError("USAGE", `${name}: is required`);
    if (path !== undefined) paths[name] = resolve(dirname(file), path);
  }
  return { ...(value as Readonly<Record<string, unknown>>), ...paths };
}

/** Where the socket of a node is, by its data directory or by itself. @throws NodeError `USAGE`. */
export function socketPath(where: {
  readonly data?: string | undefined;
  readonly socket?: string | undefined;
}): string {
  if (where.socket === undefined && where.data === undefined) {
    throw new NodeError("USAGE", "data: say which node is meant, by --data DIR or --socket PATH");
  }
  const path = where.socket === undefined ? join(where.data ?? "", SOCKET_NAME) : where.socket;
  const absolute = resolve(path);
  if (Buffer.byteLength(absolute) > SOCKET_PATH_BYTES_MAX) {
    throw new NodeError(
      "USAGE",
      `socket: ${absolute} is longer than ${SOCKET_PATH_BYTES_MAX} bytes; choose a shorter one by --socket`,
    );
  }
  return absolute;
}
