// A process of its own with one mesh member and its rpc, which may be killed or paused.
import { appendFile } from "node:fs/promises";
import { join } from "node:path";

import { createMesh } from "@klatsch/mesh";
import { createRpc } from "@klatsch/rpc";

import { work } from "./members.ts";
import type { Report } from "./members.ts";

const say = (report: Report): void => void process.send?.(report);
const [name = "", dataDir = "", neighbours = "", ...bootstrap] = process.argv.slice(2);
const mayLink = (peer: { name: string }): boolean =>
  neighbours === "" || neighbours.split(",").includes(peer.name);
const mesh = await createMesh({ name, bootstrap, dataDir, mayLink });
const rpc = createRpc({ mesh });
/** What was done, for good; its answer comes only where it is wanted. */
const doing = async (what: string): Promise<string> => {
  await appendFile(join(dataDir, "done"), `${what}\n`);
  say({ type: "done", what });
  return what.startsWith("mute") && mesh.boot === Number(what.split(" ")[1])
    ? await new Promise(() => undefined)
    : what;
};
rpc.serve(work, { plain: doing, safe: doing });
process.on("disconnect", () => process.exit(0));
say({ type: "started", addresses: [...mesh.addresses()], id: mesh.peerId, boot: mesh.boot });
