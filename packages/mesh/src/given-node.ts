import type { Ed25519PrivateKey, Libp2p, PrivateKey } from "@libp2p/interface";
import { PEER_PATTERN } from "./codec/record-codec.ts";
import { MeshError } from "./errors.ts";
import type { MeshInit } from "./types.ts";

/** A libp2p node of the application that a mesh is to work in. */
export interface GivenNode {
  readonly node: Libp2p;
  readonly privateKey: Ed25519PrivateKey;
}

/** Checks that the node is fit for a mesh. @throws MeshError `INVALID_OPTIONS`. */
export function givenNode(node: Libp2p, { listen, announce }: MeshInit): GivenNode {
  if (listen !== undefined || announce !== undefined)
    refuse("listen, announce: are for the libp2p node to say");
  if (node.status !== "started") refuse("libp2p: must be started");
  return { node, privateKey: keyOf(node) };
}

/** Entries that all share are signed with it. libp2p shows it in its components, which its interface leaves out. */
function keyOf(node: Libp2p): Ed25519PrivateKey {
  const { components } = node as { components?: { privateKey?: PrivateKey } };
  const key = components?.privateKey;
  if (key?.type !== "Ed25519" || !PEER_PATTERN.test(node.peerId.toString())) {
    return refuse("libp2p: must have an Ed25519 key");
  }
  return key;
}

function refuse(why: string): never {
  throw new MeshError("INVALID_OPTIONS", why);
}
