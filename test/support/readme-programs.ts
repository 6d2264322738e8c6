/** The programs in READMEs: blocks of TypeScript that begin with an import. Others are parts of one. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

export interface ReadmeProgram {
  /** Such as `packages-mesh-2`: the second one of that folder. The project's own README is `readme`. */
  readonly name: string;
  readonly folder: string;
  readonly text: string;
}

/** Those of the project and of its packages. */
export async function readmePrograms(): Promise<readonly ReadmeProgram[]> {
  const packages = await readdir(join(ROOT, "packages"));
  const all = ["", ...packages.map((name) => `packages/${name}`)].map(async (folder) => {
    const readme = await readFile(join(ROOT, folder, "README.md"), "utf8");
    const texts = [...readme.matchAll(/^```ts\n(import .*?)^```/gms)].map(([, text = ""]) => text);
    return texts.map((text, index) => ({
      name: `${folder.replaceAll("/", "-") || "readme"}-${index + 1}`,
      folder: join(ROOT, folder),
      text,
    }));
  });
  return (await Promise.all(all)).flat();
}
