import { once } from "node:events";
import { createMesh } from "@klatsch/mesh";
import { createQueues } from "@klatsch/queue";
import { closeService, createService } from "./service.ts";

// DATA=/tmp/one PORT=8081 npm start -w examples/embed; for a second node another DATA and PORT, and BOOTSTRAP=<an address it printed>.
const { DATA = "data", PORT = "8080", BOOTSTRAP } = process.env;
const bootstrap = BOOTSTRAP === undefined ? [] : BOOTSTRAP.split(",");
const mesh = await createMesh({ name: `service-${PORT}`, dataDir: DATA, bootstrap });
const queues = await createQueues({ mesh, dataDir: DATA });
const thumbnails = await queues.declare("thumbnails", { maxLength: 10_000 });

thumbnails.consume(
  ({ body, attempt }) => console.log(`a thumbnail of ${Buffer.from(body).toString()}, attempt ${attempt}`),
  { concurrency: 2 },
);
const server = createService(thumbnails).listen(Number(PORT), "127.0.0.1");
await once(server, "listening");
console.log(`http://127.0.0.1:${PORT}`, ...mesh.addresses());

await Promise.race([once(process, "SIGINT"), once(process, "SIGTERM")]);
// Clients first, then the queues, which wait up to 30 s for the work in hand, then the mesh.
await closeService(server);
await queues.stop();
await mesh.stop();
