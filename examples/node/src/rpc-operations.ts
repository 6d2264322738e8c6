/** What a node does about calls for those who ask at its socket. */
import type { Mesh } from "@klatsch/mesh";
import { contract, method, nodeContract } from "@klatsch/rpc";
import type { Contract, Method, Reduce, Rpc, Schema } from "@klatsch/rpc";
import { z } from "zod";
import { NodeError } from "./errors.ts";
import type { Fields } from "./fields.ts";
import type { Operations } from "./operation-types.ts";
import { REDUCERS, WAIT_MS_MAX } from "./protocol.ts";
import type { Operation } from "./protocol.ts";
import { jsonOf, peerOf } from "./state-operations.ts";

type Asked = Method<Schema, Schema, "none">;

/** A contract with that method: whoever serves it knows what its values have to be. */
function asked(args: Fields): { readonly name: string; readonly contract: Contract<Record<string, Asked>> } {
  const name = args.requiredText("method");
  const any = z.unknown();
  return {
    name,
    contract: contract({ methods: { [name]: method({ input: any, output: any, access: [] }) } }),
  };
}

export function rpcOperations(mesh: Mesh, rpc: Rpc): Pick<Operations, Extract<Operation, `rpc.${string}`>> {
  return {
    "rpc.call": async (args, { signal }) => {
      args.only("member", "method", "input", "deadlineMs");
      const deadlineMs = args.wholeNumber("deadlineMs", 1, WAIT_MS_MAX);
      const { name, contract: one } = asked(args);
      const call = rpc.peer(peerOf(mesh, args.requiredText("member")), one)[name];
      return { value: jsonOf(await call?.(args.json("input"), { deadlineMs, signal })) };
    },
    "rpc.cast": async (args) => {
      const { name, contract: one } = asked(args.only("target", "method", "input"));
      return await rpc.cast(args.requiredText("target"), one, name, args.json("input"));
    },
    "rpc.gather": async (args, { signal }) => {
      args.only("target", "method", "input", "reduce", "of", "deadlineMs");
      const { name, contract: one } = asked(args);
      const deadlineMs = args.wholeNumber("deadlineMs", 1, WAIT_MS_MAX);
      const options = { reduce: reduceOf(args), deadlineMs, signal };
      const result = await rpc.gather(args.requiredText("target"), one, name, args.json("input"), options);
      return { ...result, value: jsonOf(result.value) };
    },
    "rpc.methods": async (args) => {
      const peerId = peerOf(mesh, args.only("member").text("member"));
      return (await rpc.peer(peerId, nodeContract).methods()).toSorted();
    },
  };
}

function reduceOf(args: Fields): Reduce {
  const by = args.text("reduce") === undefined ? "concat" : args.oneOf("reduce", REDUCERS);
  const of = args.text("of");
  if (by !== "count") return { by, of };
  if (of !== undefined) throw new NodeError("BAD_REQUEST", "of: count looks at no field");
  return { by };
}
