import { glob, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const PACKAGES = fileURLToPath(new URL("../packages", import.meta.url));
/** A statement of a module that does something when it is imported; the formatter lets only those begin a line so. */
const ACTING = /^(?:await |void |new |for |if |[\w.]+(?:\(|\[| = )|\(|import ")/m;

const names = await readdir(PACKAGES);

describe("the manifest of", () => {
  it.each(names)("%s names the modules that act on import, for bundlers", async (name) => {
    const directory = join(PACKAGES, name);
    const { sideEffects } = JSON.parse(await readFile(join(directory, "package.json"), "utf8")) as {
      sideEffects: false | string[];
    };
    const acting: string[] = [];
    for await (const file of glob("src/**/*.ts", { cwd: directory })) {
      if (!ACTING.test(await readFile(join(directory, file), "utf8"))) continue;
      acting.push(`./${file}`, `./${file.replace(/^src(.*)ts$/, "dist$1js")}`);
    }
    expect((sideEffects || []).toSorted()).toEqual(acting.toSorted());
  });
});
