import { z } from "zod";

import { method } from "../contract.ts";
import type { CallClass, Method } from "../contract.ts";
import type { Schema } from "../schema.ts";
import { FAREWELL_MS } from "../core/limits.ts";
import type { Caller } from "./caller.ts";
import type { Engine } from "./engine.ts";
import { routeOf } from "./route.ts";
import type { Served } from "./registry.ts";

/** Under this name a node tells another that it takes no more calls over the session of this class. */
const FAREWELL = "klatsch.rpc.farewell";

const trafficClass: z.ZodType<CallClass, CallClass> = z.literal(["high", "normal", "bulk"]);
const farewell: Method<Schema<CallClass>, Schema<undefined>, "none"> = method({
  input: trafficClass,
  output: z.undefined(),
  access: "members", // It is about the caller's own session.
  idempotent: true,
});

/** What hears it. */
export function hearFarewell(engine: () => Engine): Served {
  const handler = (input: CallClass, { caller }: { readonly caller: { readonly peerId: string } }): void =>
    engine().enterCall({ type: "closing", route: routeOf(caller.peerId, input) });
  return { name: FAREWELL, method: farewell, handler };
}

/**
 * Says it in each session. Resolves once all have answered, with whatever: in a session answers come after the calls that were
 * sent before, so those have been refused by then, and are not lost with the session.
 */
export async function sayFarewell(engine: Engine, caller: Caller): Promise<void> {
  const said = engine.sessions().map(async ({ peer, class: ofClass, route }) => {
    const remote = { peer, route, name: FAREWELL, method: farewell };
    await caller.ask(remote, ofClass, { deadlineMs: FAREWELL_MS });
  });
  await Promise.allSettled(said);
}
