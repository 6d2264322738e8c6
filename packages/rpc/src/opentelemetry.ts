import { context, SpanKind, SpanStatusCode, trace, TraceFlags } from "@opentelemetry/api";
import type { Attributes, Context, Span, SpanContext } from "@opentelemetry/api";

import { faultOf } from "./errors.ts";
import type { OutgoingSpan, Tracing } from "./types.ts";

const TRACEPARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-|$)/;

/**
 * Spans of calls and handlers, by the tracer provider and context manager that the application registered with
 * `@opentelemetry/api`. The span of a handler is the child of its caller's, on whatever node that is.
 */
export function openTelemetry(): Tracing {
  const tracer = trace.getTracer("@klatsch/rpc");
  return {
    outgoing(method: string, peer: string): OutgoingSpan {
      const span = tracer.startSpan(method, {
        kind: SpanKind.CLIENT,
        attributes: attributesOf(method, peer),
      });
      return { traceparent: traceparentOf(span.spanContext()), end: (error) => end(span, error) };
    },
    async incoming<T>(
      method: string,
      peer: string,
      traceparent: string | undefined,
      run: () => Promise<T>,
    ): Promise<T> {
      const options = { kind: SpanKind.SERVER, attributes: attributesOf(method, peer) };
      return await tracer.startActiveSpan(method, options, parentOf(traceparent), async (span) => {
        try {
          const value = await run();
          end(span, undefined);
          return value;
        } catch (error) {
          const { code, remoteCode, message } = faultOf(error);
          end(span, { message, code: code === "HANDLER_FAILED" ? remoteCode : code });
          throw error;
        }
      });
    },
  };
}

function attributesOf(method: string, peer: string): Attributes {
  return { "rpc.system.name": "klatsch", "rpc.method": method, "network.peer.address": peer };
}

function end(span: Span, error: { readonly message: string; readonly code?: unknown } | undefined): void {
  if (error !== undefined) {
    span.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
    if (typeof error.code === "string") span.setAttribute("error.type", error.code);
  }
  span.end();
}

function traceparentOf(spanContext: SpanContext): string | undefined {
  if (!trace.isSpanContextValid(spanContext)) return undefined; // No provider is registered.
  const { traceId, spanId, traceFlags } = spanContext;
  return `00-${traceId}-${spanId}-${(traceFlags & 255).toString(16).padStart(2, "0")}`;
}

/** What a peer sent may be anything: what is no `traceparent` begins a trace of its own. */
function parentOf(traceparent: string | undefined): Context {
  const [, traceId, spanId, flags] = TRACEPARENT.exec(traceparent ?? "") ?? [];
  if (traceId === undefined || spanId === undefined || flags === undefined) return context.active();
  const traceFlags = Number.parseInt(flags, 16) & TraceFlags.SAMPLED;
  return trace.setSpanContext(context.active(), { traceId, spanId, traceFlags, isRemote: true });
}
