/** A node of `soak.ts`: tells its parent whom it saw die, how large its heap is, and whom it holds alive. */
import { createMesh } from "@klatsch/mesh";
import type { MeshInit } from "@klatsch/mesh";

/** What a node is asked. */
export type SoakCall = "report" | "stop" | "leave" | "stall";

/** How long a stalled node's event loop stands still, in milliseconds. */
const STALL_MS = 2_000;

/** What it tells. */
export type SoakWord =
  | {
      readonly type: "started";
      readonly peerId: string;
      readonly boot: number;
      readonly addresses: readonly string[];
    }
  | { readonly type: "died"; readonly peerId: string; readonly boot: number }
  | {
      readonly type: "report";
      readonly heapBytes: number;
      readonly rssBytes: number;
      readonly members: number;
      readonly alive: readonly string[];
    };

const { loss, ...init } = JSON.parse(process.argv[2] ?? "{}") as MeshInit & { readonly loss: number };
const mesh = await createMesh({ ...init, losesFrame: () => Math.random() < loss });
const tell = (word: SoakWord): void => void process.send?.(word);

mesh.on("member:died", ({ peerId, boot }) => tell({ type: "died", peerId, boot }));
process.on("message", (call: SoakCall) => {
  if (call === "report") report();
  else if (call === "stall") Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, STALL_MS);
  else if (call === "leave") void mesh.leave().then(() => process.exit(0));
  else void mesh.stop().then(() => process.exit(0));
});
tell({ type: "started", peerId: mesh.peerId, boot: mesh.boot, addresses: mesh.addresses() });

function report(): void {
  globalThis.gc?.();
  const { heapUsed, rss } = process.memoryUsage();
  const members = mesh.members();
  const alive = members.filter(({ status }) => status === "alive").map(({ peerId }) => peerId);
  tell({ type: "report", heapBytes: heapUsed, rssBytes: rss, members: members.length, alive });
}
