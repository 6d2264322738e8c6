import { KlatschError } from "@klatsch/kit";
import { readConfig } from "../config.ts";
import type { NodeConfig, UpFlags } from "../config.ts";
import { Daemon } from "../daemon.ts";
import { changeLine } from "../format.ts";
import { stderrLogger } from "../logger.ts";
import { watchMembers } from "../operations.ts";

/** Who waits for a mesh to join has to say where, for others to dial. */
function toldWhereItWaits(config: NodeConfig, signal: AbortSignal): NodeConfig {
  if (config.mesh.joinAny === undefined) return config;
  const onWaiting = (addresses: readonly string[]): void => {
    console.log("waiting for a mesh; a member of it joins this node by --bootstrap and one of");
    for (const address of addresses) console.log(`  ${address}`);
  };
  return { ...config, mesh: { ...config.mesh, joinAny: { onWaiting, signal } } };
}

/** Runs a node until it is told to stop. Resolves with the exit code. */
export async function up(flags: UpFlags, ending: AbortSignal): Promise<number> {
  const config = await readConfig(flags);
  const daemon = await Daemon.start(toldWhereItWaits(config, ending), stderrLogger(), ending);
  if (daemon === undefined) return 0;
  ending.addEventListener("abort", () => void daemon.stop("stop"));

  const { mesh } = daemon;
  if (process.stdout.isTTY) watchMembers(mesh, (change) => console.log(changeLine(change)));
  const addresses = mesh.addresses();
  const how =
    addresses.length > 0 ? "others join by --bootstrap and one of" : "no address: nobody can dial it";
  console.log(`${mesh.name} is up, boot ${mesh.boot}; ${how}`);
  for (const address of addresses) console.log(`  ${address}`);
  console.log(`commands by --socket ${config.socket}`);

  const failure = await daemon.ended;
  if (failure === undefined) return 0;
  const code = failure instanceof KlatschError ? ` (${failure.code})` : "";
  console.error(`klatsch: the node has failed: ${failure.message}${code}`);
  return 1;
}
