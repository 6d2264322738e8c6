export { contract, method } from "./contract.ts";
export type {
  Access,
  CallClass,
  CallContext,
  CallGuard,
  Caller,
  Certified,
  CallOptions,
  Client,
  ClientMethod,
  Contract,
  Handler,
  Implementation,
  Later,
  Method,
  MethodInit,
  Methods,
  Source,
  Streaming,
} from "./contract.ts";
export type { Fault, RpcErrorCode } from "./core/messages.ts";
export type { Reduce, Reducer } from "./core/reducers.ts";
export { RpcError } from "./errors.ts";
export type { MethodProfile } from "./host/profile.ts";
export { nodeContract } from "./node-contract.ts";
export type { Ask, NodeInfo, NodeMethods } from "./node-contract.ts";
export { createRpc } from "./rpc.ts";
export type { InputOf, OutputOf, Schema, SchemaIssue, SchemaResult } from "./schema.ts";
export type * from "./types.ts";
