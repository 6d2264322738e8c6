/** What a node does about gossip state for those who ask at its socket. */
import { once } from "node:events";
import type { Mesh, StateValue } from "@klatsch/mesh";
import { NodeError } from "./errors.ts";
import type { Fields } from "./fields.ts";
import type { Operations } from "./operation-types.ts";
import type { Operation, StateChange, StateEntry } from "./protocol.ts";

type StateOperation = Extract<Operation, `state.${string}`>;

export function stateOperations(mesh: Mesh): Pick<Operations, StateOperation> {
  const { state } = mesh;

  return {
    "state.set": async (args) => {
      args.only("key", "value", "shared");
      const key = args.requiredText("key");
      const value = valueOf(args);
      if (args.flag("shared")) await state.shared.set(key, value);
      else state.set(key, value);
      return {};
    },
    "state.get": async (args) => {
      args.only("key", "member", "shared");
      const key = args.requiredText("key");
      const peerId = peerOf(mesh, args.text("member"));
      const value = args.flag("shared") ? state.shared.get(key) : state.get(peerId, key);
      if (value === undefined)
        throw new NodeError("UNKNOWN_KEY", `there is no value under ${JSON.stringify(key)} here`);
      return { value: jsonOf(value) };
    },
    "state.delete": async (args) => {
      args.only("key", "shared");
      const key = args.requiredText("key");
      return { existed: args.flag("shared") ? await state.shared.delete(key) : state.delete(key) };
    },
    "state.list": async (args) => {
      args.only("prefix", "member", "shared");
      const prefix = args.text("prefix");
      const member = args.text("member");
      if (args.flag("shared")) return state.shared.entries({ prefix }).map(entryOf);
      const peerId = member === undefined ? undefined : peerOf(mesh, member);
      return state.entries({ prefix, peerId }).map(entryOf);
    },
    "state.watch": async (args, { signal }, emit) => {
      args.only("prefix", "shared");
      const prefix = args.text("prefix");
      const end = args.flag("shared")
        ? state.shared.watch({ prefix }, (change) => emit(changeOf(change)))
        : state.watch({ prefix }, (change) => emit(changeOf(change)));
      if (!signal.aborted) await once(signal, "abort");
      end();
      return {};
    },
  };
}

/** The peer id of a member given by name or peer id; this node's if none is. */
export function peerOf(mesh: Mesh, member: string | undefined): string {
  if (member === undefined) return mesh.peerId;
  return member.startsWith("12D3KooW") ? member : mesh.resolve(member);
}

interface Told {
  readonly key: string;
  readonly peerId?: string;
  readonly writer?: string;
}

function entryOf({ value, ...told }: Told & { readonly value: StateValue }): StateEntry {
  return { key: told.key, peerId: told.peerId ?? told.writer ?? "", value: jsonOf(value) };
}

function changeOf({ value, ...told }: Told & { readonly value: StateValue | undefined }): StateChange {
  const about = { key: told.key, peerId: told.peerId ?? told.writer ?? "" };
  return value === undefined ? about : { ...about, value: jsonOf(value) };
}

/** @throws NodeError `BAD_REQUEST`: `undefined` is no value. */
function valueOf(args: Fields): StateValue {
  const value = args.json("value");
  if (value === undefined) throw new NodeError("BAD_REQUEST", "value: is required");
  return value as StateValue; // What JSON can say, gossip state can hold.
}

/** JSON has no bytes: they are shown in base64. */
export function jsonOf(value: unknown): unknown {
  if (value instanceof Uint8Array) return { base64: Buffer.from(value).toString("base64") };
  if (Array.isArray(value)) return value.map(jsonOf);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, jsonOf(each)]));
}
