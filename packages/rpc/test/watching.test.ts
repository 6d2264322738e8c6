import { context, SpanKind, trace } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { TracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from "@opentelemetry/sdk-trace";
import type { ReadableSpan } from "@opentelemetry/sdk-trace";
import { contract, method, nodeContract } from "@klatsch/rpc";
import type { ClientMiddleware } from "@klatsch/rpc";
import { openTelemetry } from "@klatsch/rpc/opentelemetry";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";

import { Nodes, until } from "./support/nodes.ts";

const text = z.string();

describe("spans", () => {
  const exporter = new InMemorySpanExporter();

  beforeAll(() => {
    context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
    trace.setGlobalTracerProvider(
      new TracerProvider({ spanProcessors: [new SimpleSpanProcessor({ exporter })] }),
    );
  });
  afterAll(() => {
    trace.disable();
    context.disable();
  });

  it("follow a call, a cast and a gather from node to node", async () => {
    await using nodes = await Nodes.start();
    const tracing = openTelemetry();
    for (const name of ["a", "b", "c"]) await nodes.add(name, { tracing });
    const api = contract({
      name: "api",
      methods: {
        relay: method({ input: text, output: text, access: "members" }),
        end: method({ input: text, output: text, access: "members" }),
      },
    });
    for (const { name, rpc } of nodes.all()) {
      rpc.serve(api, {
        relay: async (peer) => await rpc.peer(peer, api).end("x"),
        end: (input) => {
          if (input === "fail") throw new Error("no");
          return name;
        },
      });
    }
    const { rpc } = nodes.get("a");
    const root = trace.getTracer("test").startSpan("root");
    const within = async <T>(run: () => Promise<T>): Promise<T> =>
      await context.with(trace.setSpan(context.active(), root), run);
    const chain = async (leaf: string): Promise<readonly string[]> => {
      const named = (): ReadableSpan[] => exporter.getFinishedSpans();
      await until("all spans ended", () =>
        named().some(({ name, kind }) => name === leaf && kind === SpanKind.SERVER),
      );
      const spans = new Map(named().map((span) => [span.spanContext().spanId, span]));
      const path: string[] = [];
      let at = named().find(({ name, kind }) => name === leaf && kind === SpanKind.SERVER);
      while (at !== undefined) {
        path.unshift(`${at.name} ${at.kind === SpanKind.SERVER ? "server" : "client"}`);
        expect(at.spanContext().traceId).toBe(root.spanContext().traceId);
        const parent: string | undefined = at.parentSpanContext?.spanId;
        at = spans.get(parent ?? "");
      }
      exporter.reset();
      return path;
    };
    expect(await within(async () => await rpc.peer(nodes.get("b").id, api).relay(nodes.get("c").id))).toBe(
      "c",
    );
    const relayed = ["api.relay client", "api.relay server", "api.end client", "api.end server"];
    expect(await chain("api.end")).toEqual(relayed);
    await within(async () => await rpc.cast(["b"], api, "end", "x"));
    expect(await chain("api.end")).toEqual(["api.end client", "api.end server"]);
    await within(async () => await rpc.gather(["b"], api, "end", "x"));
    const gathered = ["klatsch.gather.collect client", "klatsch.gather.collect server", "api.end server"];
    expect(await chain("api.end")).toEqual(gathered);
    await within(
      async () => await expect(rpc.peer(nodes.get("b").id, api).end("fail")).rejects.toThrow("no"),
    );
    const failed = exporter.getFinishedSpans().find(({ kind }) => kind === SpanKind.CLIENT);
    expect([failed?.status.code, failed?.attributes["error.type"]]).toEqual([2, "HANDLER_FAILED"]);
  });
});

describe("metrics", () => {
  it("are a histogram for each method, on both sides", async () => {
    await using nodes = await Nodes.start("a", "b");
    const { rpc } = nodes.get("a");
    await rpc.peer(nodes.get("b").id, nodeContract).ping();
    const lines = rpc.metrics().split("\n");
    const labels = 'side="client",method="klatsch.node.ping"';
    expect(lines).toContain("# TYPE klatsch_rpc_call_seconds histogram");
    expect(lines).toContain(`klatsch_rpc_call_seconds_bucket{${labels},le="+Inf"} 1`);
    expect(lines).toContain(`klatsch_rpc_call_seconds_count{${labels}} 1`);
    expect(lines).toContain("klatsch_rpc_sessions 3");
    expect(lines).toContain(`klatsch_rpc_call_errors_total{${labels}} 0`);
    expect(lines).toContain('klatsch_rpc_faults_total{kind="denied"} 0');
    const buckets = lines
      .filter((line) => line.includes(`_bucket{${labels}`))
      .map((line) => line.split(" ")[1]);
    expect(buckets).toEqual(buckets.toSorted()); // Cumulated.
    expect(nodes.get("b").rpc.metrics()).toContain('_count{side="server",method="klatsch.node.ping"} 1');
  });
});

describe("client middleware", () => {
  const api = contract({
    methods: {
      count: method({ input: z.number(), output: z.number(), access: "members", stream: "output" }),
    },
  });

  async function around(layer: ClientMiddleware, read: (items: AsyncIterable<number>) => Promise<void>) {
    await using nodes = await Nodes.start("b");
    await nodes.add("a", { middleware: { client: [layer] } });
    nodes.get("b").rpc.serve(api, {
      *count(to) {
        for (let no = 0; no < to; no += 1) yield no;
        if (to === 13) throw new Error("unlucky");
      },
    });
    await read(nodes.get("a").rpc.peer(nodes.get("b").id, api).count(13));
    await until("nothing is left", () => nodes.get("a").rpc.stats().pending === 0);
  }

  it("is around an output stream from its begin to its end, and sees how it ended", async () => {
    const seen: string[] = [];
    let items = 0;
    const layer: ClientMiddleware = async (call, next) => {
      seen.push(`begin ${call.method} ${items}`);
      try {
        return await next();
      } catch (error) {
        seen.push(`${(error as Error).message} ${items}`);
        throw new Error("translated", { cause: error });
      }
    };
    await around(layer, async (stream) => {
      const reading = (async () => {
        for await (const _ of stream) items += 1;
      })();
      await expect(reading).rejects.toThrow("translated");
    });
    expect(seen).toEqual(["begin count 0", "unlucky 13"]);
  });

  it("may refuse a stream, and learns that its reader stopped", async () => {
    const refuse: ClientMiddleware = () => Promise.reject(new Error("not today"));
    await around(refuse, async (stream) => {
      await expect(stream[Symbol.asyncIterator]().next()).rejects.toThrow("not today");
    });
    let isOver = false;
    const watch: ClientMiddleware = async (_call, next) => {
      await next();
      isOver = true;
      return undefined;
    };
    await around(watch, async (stream) => {
      for await (const no of stream) if (no === 3) break;
      expect(isOver).toBe(true);
    });
  });
});
