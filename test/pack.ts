/**
 * Packs every package, has publint judge the tarballs, installs them in an empty project under the oldest supported
 * Node, imports every door, and runs the programs of the READMEs there. Needs the npm registry; run by `npm run test:pack`, not by `npm test`.
 */
import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { readmePrograms } from "./support/readme-programs.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const run = promisify(execFile);

interface Packed {
  readonly name: string;
  readonly tarball: string;
  readonly doors: readonly string[];
  /** What its doors need beside it, optional ones included. */
  readonly peers: readonly string[];
}

async function pack(directory: string, target: string): Promise<Packed> {
  const manifest = JSON.parse(await readFile(join(directory, "package.json"), "utf8")) as {
    name: string;
    exports: Record<string, unknown>;
    peerDependencies?: Record<string, string>;
  };
  const { stdout } = await run("npm", ["pack", "--json", "--silent", "--pack-destination", target], {
    cwd: directory,
  });
  const [packed] = JSON.parse(stdout) as { filename: string; files: { path: string }[] }[];
  if (packed === undefined) throw new Error(`npm packed nothing in ${directory}`);
  const paths = packed.files.map(({ path }) => path);
  for (const needed of ["README.md", "LICENSE", "dist/index.js", "dist/index.d.ts"]) {
    if (!paths.includes(needed)) throw new Error(`${manifest.name}: ${needed} is not in the tarball`);
  }
  const tarball = join(target, packed.filename);
  await lint(tarball);
  const doors = Object.keys(manifest.exports).map((door) => manifest.name + door.slice(1));
  const peers = Object.entries(manifest.peerDependencies ?? {}).map(([name, range]) => `${name}@${range}`);
  return { name: manifest.name, tarball, doors, peers };
}

/** @throws Error with what publint finds wrong, suggestions included. */
async function lint(tarball: string): Promise<void> {
  const bytes = await readFile(tarball);
  const { messages, pkg } = await publint({
    pack: { tarball: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) },
    strict: true,
  });
  if (messages.length > 0) throw new Error(messages.map((each) => formatMessage(each, pkg)).join("\n"));
}

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "klatsch-pack-"));
  try {
    const wanted = process.argv.slice(2);
    const names = wanted.length > 0 ? wanted : await readdir(join(ROOT, "packages"));
    const packed: Packed[] = [];
    for (const name of names) packed.push(await pack(join(ROOT, "packages", name), folder));
    await writeFile(join(folder, "package.json"), JSON.stringify({ private: true, type: "module" }));
    await run(
      "npm",
      [
        "install",
        "--no-audit",
        "--no-fund",
        "node@22",
        ...packed.flatMap(({ tarball, peers }) => [tarball, ...peers]),
      ],
      {
        cwd: folder,
      },
    );
    const doors = packed.flatMap((each) => each.doors);
    const script = [
      "console.log(process.version);",
      `for (const door of ${JSON.stringify(doors)}) console.log(door, Object.keys(await import(door)).length);`,
    ].join("\n");
    await writeFile(join(folder, "main.js"), script);
    const node = join(folder, "node_modules", ".bin", "node");
    const { stdout } = await run(node, ["main.js"], { cwd: folder });
    console.log(stdout.trim());
    if (!stdout.startsWith("v22.")) throw new Error("that was not Node 22");
    if (wanted.length > 0) return; // The programs want all packages.
    for (const { name, text } of await readmePrograms()) {
      await writeFile(join(folder, `${name}.ts`), text);
      const said = await run(node, [`${name}.ts`], { cwd: folder });
      console.log(name, said.stdout.length);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

await main();
