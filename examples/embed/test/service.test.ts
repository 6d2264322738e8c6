import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import type { Server } from "node:http";
import { connect } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { createMesh } from "@klatsch/mesh";
import { createQueues } from "@klatsch/queue";
import { describe, expect, it } from "vitest";
import { closeService, createService } from "../src/service.ts";

describe("a service with a queue in it", () => {
  it("hands work over, shows the depth, and says in HTTP's words when the queue refuses", async () => {
    const dataDir = await mkdtemp(join(tmpdir(), "klatsch-embed-"));
    const mesh = await createMesh({ name: "service", dataDir });
    const queues = await createQueues({ mesh, dataDir });
    const thumbnails = await queues.declare("thumbnails", { maxLength: 2 });
    const server: Server = createService(thumbnails).listen(0, "127.0.0.1");
    await once(server, "listening");
    const at = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const send = async (type: string, body: string): Promise<Response> =>
      await fetch(`${at}/pictures`, { method: "POST", headers: { "content-type": type }, body });
    const post = async (body: unknown): Promise<Response> =>
      await send("application/json", JSON.stringify(body));
    const first = await post({ url: "http://x/1.png" });
    expect([first.status, (await post({})).status]).toEqual([202, 400]);
    for (const [type, body, status] of [
      ["text/plain", "http://x/1.png", 400],
      ["application/json", "{", 400],
      ["application/json", `"${"x".repeat(70_000)}"`, 413],
    ] as const) {
      const refused = await send(type, body);
      expect(refused.status).toBe(status);
      expect(await refused.json()).toEqual({ error: expect.any(String) });
    }
    const { id } = (await first.json()) as { id: string };
    expect(await queues.resolve(id)).toBe("ACKED");
    expect((await post({ url: "http://x/2.png" })).status).toBe(202);
    const full = await post({ url: "http://x/3.png" });
    expect([full.status, full.headers.get("retry-after")]).toEqual([503, "5"]);
    expect(await full.json()).toMatchObject({ code: "QUEUE_FULL", outcome: "none" });
    expect(await (await fetch(`${at}/depth`)).json()).toMatchObject({ ready: 2, dead: 0 });
    const message = await thumbnails.take();
    expect(Buffer.from(message.body).toString()).toMatch(/^http:\/\/x\/[12]\.png$/);
    await message.ack();

    // A client that keeps its connection busy does not hold it.
    const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
    client.write("POST /pictures HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n");
    await once(server, "request");
    const closed = closeService(server);
    client.write(`x${"GET /depth HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2)}`);
    const told = (await text(client)).match(/HTTP\/1\.1 \d+|^Connection: .*/gm);
    expect(told).toEqual([
      ...["HTTP/1.1 400", "Connection: keep-alive"],
      ...["HTTP/1.1 200", "Connection: close"],
    ]);
    await closed;
    await queues.stop();
    await mesh.stop();
    await rm(dataDir, { recursive: true });
  });
});
