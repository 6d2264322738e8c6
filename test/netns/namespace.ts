/** Network namespaces of this process's own. Works inside `unshare -rn`. */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { readlinkSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";

/** Why this machine has no such namespaces; `undefined` if it has. */
export function namespaceObstacle(): string | undefined {
  const trial = "ip link add t0 type veth peer name t1 && unshare -n true && nsenter -t $$ -n true";
  const { status, error, stderr } = spawnSync("unshare", ["-rn", "sh", "-c", trial], { encoding: "utf8" });
  if (error !== undefined) return `unshare cannot be run: ${error.message}`;
  return status === 0 ? undefined : `no network namespaces with virtual cables here: ${stderr.trim()}`;
}

/** A new one. The process returned holds it for as long as it lives: it ends with its input, which ends with us. */
export async function openNamespace(): Promise<ChildProcess> {
  const holder = spawn("unshare", ["-n", "cat"], { stdio: ["pipe", "ignore", "inherit"] });
  const own = readlinkSync("/proc/self/ns/net");
  while (namespaceOf(holder.pid) === own) await delay(5);
  runIn(holder, "ip", "link", "set", "lo", "up");
  return holder;
}

export function runIn(holder: ChildProcess, ...command: readonly string[]): void {
  execFileSync("nsenter", ["-t", String(holder.pid), "-n", ...command]);
}

function namespaceOf(pid: number | undefined): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return readlinkSync("/proc/self/ns/net");
  }
}
