import { posix } from "node:path";

/** Source text by path relative to the repository, with forward slashes. */
export type Sources = ReadonlyMap<string, string>;

/** What a package offers to others: `@klatsch/kit` → `.`, `./core`, `./store`. */
export type Doors = ReadonlyMap<string, ReadonlySet<string>>;

/** The arrows between packages. A package that is not listed may import nothing of ours. */
const ARROWS: Readonly<Record<string, readonly string[]>> = {
  kit: [],
  mesh: ["kit"],
  queue: ["mesh", "kit"],
  rpc: ["mesh", "kit"],
  state: ["kit"],
  controllers: ["state", "kit"],
  http: ["mesh", "queue", "rpc", "state", "kit"],
};

/** Folders of `src` and the folders they may reach. Modules directly in `src` are the service: they reach all. */
const LAYERS: Readonly<Record<string, readonly string[]>> = {
  core: ["core"],
  codec: ["codec", "core"],
};

/** Modules directly in `src` that hold declarations only, so that any layer but the core may use them. */
const DECLARATIONS: ReadonlySet<string> = new Set(["errors.ts", "options.ts", "state-types.ts", "types.ts"]);

interface Import {
  readonly file: string;
  readonly specifier: string;
  /** The file a relative specifier means. */
  readonly target: string | undefined;
  readonly isType: boolean;
}

/** One line for each import that breaks a rule, and one for each cycle. */
export function importViolations(sources: Sources, doors: Doors): string[] {
  const imports = [...sources].flatMap(([file, text]) => importsOf(file, text));
  const broken = imports.flatMap((each) => {
    const reason = [packageRule, layerRule, indexRule, outsideRule]
      .map((rule) => rule(each, doors))
      .find(Boolean);
    return reason === undefined ? [] : [`${each.file} imports ${each.specifier}: ${reason}`];
  });
  return [...broken, ...cycles(imports)];
}

const STATEMENT =
  /^[ \t]*(?:import|export)\b(?<type> type\b)?(?:[^"';]*?\bfrom)?\s*["'](?<name>[^"']+)["']/gm;
const DYNAMIC = /\bimport\(\s*["'](?<name>[^"']+)["']/g;

function importsOf(file: string, text: string): Import[] {
  return [...text.matchAll(STATEMENT), ...text.matchAll(DYNAMIC)].map(({ groups }) => {
    const specifier = groups?.["name"] ?? "";
    const target = specifier.startsWith(".") ? posix.join(posix.dirname(file), specifier) : undefined;
    return { file, specifier, target, isType: groups?.["type"] !== undefined };
  });
}

/** Which package a file belongs to, and where in it: `packages/kit/src/core/clock.ts` → kit, src, core. */
function placeOf(file: string): { readonly owner: string; readonly part: string; readonly folder: string } {
  const [top = "", owner = "", part = "", folder = ""] = file.split("/");
  return top === "packages" ? { owner, part, folder } : { owner: top, part: owner, folder: "" };
}

function packageRule({ file, specifier }: Import, doors: Doors): string | undefined {
  if (!specifier.startsWith("@klatsch/")) return undefined;
  const [, name = ""] = specifier.split("/");
  const door = ["."].concat(specifier.split("/").slice(2)).join("/");
  if (doors.get(name)?.has(door) !== true) return "no such door";
  if (!file.startsWith("packages/")) return undefined;
  const { owner, part } = placeOf(file);
  const allowed = [...(ARROWS[owner] ?? []), ...(part === "test" ? [owner] : [])];
  return allowed.includes(name) ? undefined : `${owner} may not know ${name}`;
}

function layerRule({ file, specifier, target }: Import): string | undefined {
  const { owner, part, folder } = placeOf(file);
  if (!file.startsWith("packages/") || part !== "src") return undefined;
  if (target === undefined) {
    return folder === "core" && specifier !== "@klatsch/kit/core" ? "a core imports cores only" : undefined;
  }
  const allowed = LAYERS[folder];
  if (allowed === undefined || !target.startsWith(`packages/${owner}/src/`)) return undefined;
  const reached = placeOf(target).folder;
  if (folder !== "core" && DECLARATIONS.has(reached)) return undefined;
  return allowed.includes(reached) ? undefined : `${folder} may not reach ${reached}`;
}

function indexRule({ file, target }: Import): string | undefined {
  if (target === undefined || !target.endsWith("/index.ts")) return undefined;
  if (file.endsWith("/index.ts") && target.startsWith(posix.dirname(file))) return undefined;
  return "index.ts is for others; import the module itself";
}

function outsideRule({ file, target }: Import): string | undefined {
  if (target === undefined) return undefined;
  const [top, name] = file.split("/");
  const home = top === "packages" || top === "examples" ? `${top}/${name}/` : `${top}/`;
  if (target.startsWith(home)) return undefined;
  const reachesCore = /^packages\/[^/]+\/src\/(core|codec)\//.test(target);
  if (file.startsWith("test/sim/") && reachesCore) return undefined;
  return "use the name of the package";
}

/**
 * Depth-first search; each cycle is reported once, from where it was entered. Among tests, types may
 * refer to each other in circles: a simulated world and what lives in it do.
 */
function cycles(imports: readonly Import[]): string[] {
  const counted = imports.filter(({ file, target, isType }) => {
    return target !== undefined && !(isType && /^test\/|\/test\//.test(file));
  });
  const edges = Map.groupBy(counted, ({ file }) => file);
  const state = new Map<string, "open" | "done">();
  const found: string[] = [];
  const visit = (file: string, path: readonly string[]): void => {
    if (state.get(file) === "done") return;
    if (state.get(file) === "open") {
      found.push(`cycle: ${[...path.slice(path.indexOf(file)), file].join(" → ")}`);
      return;
    }
    state.set(file, "open");
    for (const { target } of edges.get(file) ?? []) if (target !== undefined) visit(target, [...path, file]);
    state.set(file, "done");
  };
  for (const file of edges.keys()) visit(file, []);
  return found;
}
