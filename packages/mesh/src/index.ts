export { MeshError } from "./errors.ts";
export type { MeshErrorCode } from "./errors.ts";
export { createMesh } from "./mesh.ts";
export type {
  KeyFilter,
  MeshState,
  SharedChange,
  SharedEntry,
  SharedState,
  StateChange,
  StateEntry,
  StateFilter,
  StateValue,
} from "./state-types.ts";
export type {
  Channel,
  ChannelClass,
  ChannelHandlers,
  ChannelOptions,
  ClassLimits,
  Conduit,
  LinkRefusal,
  Member,
  MemberEvidence,
  MemberStatus,
  Mesh,
  MeshEvents,
  MeshInit,
  MeshStats,
} from "./types.ts";
