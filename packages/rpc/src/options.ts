import { guardLogger, silentLogger } from "@klatsch/kit";
import type { Logger } from "@klatsch/kit";
import type { Mesh } from "@klatsch/mesh";
import { z } from "zod";

import { rpcError } from "./errors.ts";
import { readable } from "./known.ts";
import type {
  ClientMiddleware,
  OnceOptions,
  OnceQueues,
  RpcInit,
  ServerMiddleware,
  Tracing,
} from "./types.ts";

/** {@link RpcInit} with all defaults filled in and checked. */
export interface RpcOptions {
  readonly mesh: Mesh;
  readonly pendingMax: number;
  readonly servingMax: number;
  readonly client: readonly ClientMiddleware[];
  readonly server: readonly ServerMiddleware[];
  readonly once: OnceOptions | undefined;
  readonly tracing: Tracing | undefined;
  readonly logger: Logger;
}

const limit = z.int().min(1).max(10_000_000);
const layers = <Layer>(): z.ZodType<readonly Layer[] | undefined> =>
  z.array(z.custom<Layer>((value) => typeof value === "function", "must be a function")).optional();

/** An object of the application's that has these methods. */
const port = <Port>(methods: readonly (keyof Port & string)[], message: string): z.ZodType<Port> =>
  z.custom<Port>((value) => {
    const given = value as Partial<Record<string, unknown>> | null | undefined;
    return methods.every((method) => typeof given?.[method] === "function");
  }, message);

const schema = z.strictObject({
  mesh: port<Mesh>(["channel"], "must be a mesh made by createMesh"),
  pendingMax: limit.default(65_536),
  servingMax: limit.default(16_384),
  middleware: z
    .strictObject({ client: layers<ClientMiddleware>(), server: layers<ServerMiddleware>() })
    .optional(),
  once: z
    .strictObject({
      queues: port<OnceQueues>(["declare", "inspect", "on"], "must be queues, such as createQueues makes"),
      replicas: z.int().min(1).max(15).optional(),
    })
    .optional(),
  tracing: port<Tracing>(["outgoing", "incoming"], "needs outgoing() and incoming()").optional(),
  logger: port<Logger>(["warn"], "needs warn()").optional(),
});

/** Checks and completes the options. @throws RpcError `INVALID_OPTIONS` naming the field. */
export function resolveOptions(init: RpcInit): RpcOptions {
  // The error as well: it is put into words, which read the options again, when it is asked for.
  const { data, error } = readable("createRpc", () => {
    const result = schema.safeParse(init);
    return { data: result.data, error: result.error };
  });
  if (data === undefined) {
    const [issue] = error?.issues ?? [];
    const field = ["createRpc", ...(issue?.path ?? [])].map(String).join(".");
    throw rpcError("INVALID_OPTIONS", `${field}: ${issue?.message ?? "invalid"}`, error);
  }
  const { middleware, logger, tracing, once, ...options } = data;
  return {
    ...options,
    client: middleware?.client ?? [],
    server: middleware?.server ?? [],
    once,
    tracing,
    logger: guardLogger(logger ?? silentLogger),
  };
}
