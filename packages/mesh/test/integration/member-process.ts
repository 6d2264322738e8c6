// A member in a process of its own: told what to be by its argument, tells what it sees to its parent.
import { createMesh } from "@klatsch/mesh";
import type { MeshInit } from "@klatsch/mesh";

const mesh = await createMesh(JSON.parse(process.argv[2] ?? "{}") as MeshInit);
const tell = (message: object): void => void process.send?.(message);

const echo = mesh.channel("echo", {
  onUp: () => undefined,
  onDown: () => undefined,
  onFrame: (peer, frame) => void echo.send(peer, frame),
});
for (const event of ["member:joined", "member:died"] as const) {
  mesh.on(event, (member) => tell({ event, name: member.name }));
}
mesh.on("self:declaredDead", ({ incarnation }) => tell({ event: "self:declaredDead", incarnation }));
process.on("message", (message) => {
  if (message === "leave") void mesh.leave().then(() => process.disconnect());
  if (message === "stop") void mesh.stop().then(() => process.disconnect());
});
tell({ event: "started", peerId: mesh.peerId, boot: mesh.boot, addresses: mesh.addresses() });
