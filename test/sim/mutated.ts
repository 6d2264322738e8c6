import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, posix, relative, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

/** A rule taken out of the source: `find` must be there exactly once. */
export interface Edit {
  /** Path in the core's folder. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

export interface Mutation {
  /** The package whose core it is. */
  readonly of: "mesh" | "queue" | "rpc";
  /** Names the folder of the copies: no two that run at once may share it. */
  readonly name: string;
  readonly edits: readonly Edit[];
  /** The module to load, as a path in the core's folder. */
  readonly module: string;
}

/** Not in node_modules: Node strips no types there. */
const COPIES = fileURLToPath(new URL(".mutants", import.meta.url));
const IMPORT = /^((?:import|export) (?!type\b)[^;]*?from ")(\.[^"]+)(";)/gmu;

/**
 * A module of the core with the edits. Only what is edited, and what imports it, is copied: the rest is the real core, which is
 * loaded and warm already. Throws if an edit does not fit the source exactly once.
 */
export async function loadMutated(mutation: Mutation): Promise<Readonly<Record<string, unknown>>> {
  const { name, edits, module } = mutation;
  const core = fileURLToPath(new URL(`../../packages/${mutation.of}/src/core`, import.meta.url));
  const sources = sourcesIn(core);
  for (const { file, find, replace } of edits) {
    const parts = sources.get(file)?.split(find) ?? [];
    if (parts.length !== 2) {
      throw new Error(`${name}: its pattern is found ${parts.length - 1} times in ${file}, not once`);
    }
    sources.set(file, parts.join(replace));
  }
  const copied = withImporters(
    sources,
    edits.map((edit) => edit.file),
  );
  if (!copied.has(module)) throw new Error(`${name}: ${module} does not import what is edited`);
  const folder = join(COPIES, name.replaceAll(" ", "-"));
  rmSync(folder, { recursive: true, force: true });
  for (const file of copied) {
    const path = join(folder, file);
    const source = (sources.get(file) ?? "").replaceAll(IMPORT, (_, before: string, to: string, after) => {
      const target = posix.join(posix.dirname(file), to);
      if (copied.has(target)) return `${before}${to}${after}`;
      return `${before}${relative(dirname(path), join(core, target)).replaceAll(sep, "/")}${after}`;
    });
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, source);
  }
  return (await import(pathToFileURL(join(folder, module)).href)) as Record<string, unknown>;
}

/** Source by path. */
function sourcesIn(core: string): Map<string, string> {
  const files = readdirSync(core, { recursive: true, encoding: "utf8" }).filter((file) =>
    file.endsWith(".ts"),
  );
  return new Map(
    files.map((file) => [file.replaceAll(sep, "/"), readFileSync(join(core, file), "utf8")] as const),
  );
}

/** The files, and all that import one of them, over however many others. */
function withImporters(sources: ReadonlyMap<string, string>, files: readonly string[]): ReadonlySet<string> {
  const found = new Set(files);
  for (let before = 0; before < found.size;) {
    before = found.size;
    for (const [file, source] of sources) {
      const targets = [...source.matchAll(IMPORT)].map(([, , to = ""]) =>
        posix.join(posix.dirname(file), to),
      );
      if (targets.some((target) => found.has(target))) found.add(file);
    }
  }
  return found;
}
