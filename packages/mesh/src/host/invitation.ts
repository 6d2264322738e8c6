import { once } from "node:events";
import { join } from "node:path";
import { callListener } from "@klatsch/kit";
import type { Logger } from "@klatsch/kit";
import { yamux } from "@libp2p/yamux";
import type { Ed25519PrivateKey, Libp2p } from "@libp2p/interface";
import { createLibp2p } from "libp2p";
import { admissionEncrypters, OPEN_NOISE } from "../admission/encrypter.ts";
import type { AdmissionRules } from "../admission/encrypter.ts";
import { NAME_PATTERN } from "../codec/record-codec.ts";
import { MeshError } from "../errors.ts";
import type { JoinAny } from "../types.ts";
import { conduits, removeStaleSocket } from "./conduits.ts";
import { readIfPresent, writeDurably } from "./files.ts";

/** Name of the mesh that this node was asked to join: it stays there. */
const MESH_FILE = "mesh-name";
/** A handshake may take this long, in milliseconds. */
const HANDSHAKE_MS = 3_000;
/** Connections that may be half open at once. */
const PENDING_MAX = 64;

export interface InvitationInit {
  readonly dataDir: string;
  readonly privateKey: Ed25519PrivateKey;
  readonly listen: readonly string[];
  readonly joinAny: JoinAny;
  readonly logger: Logger;
}

export interface Invitation {
  readonly mesh: string;
  /** Where the node was found: it goes on listening there. */
  readonly listen: readonly string[];
}

/**
 * The mesh that a node without one is to join: that of the first member of an open mesh that dials it, once and for
 * all. @throws MeshError `LISTEN_FAILED`, `STOPPED` if the signal aborts first.
 */
export async function awaitInvitation(init: InvitationInit): Promise<Invitation> {
  const { dataDir, listen, joinAny, logger } = init;
  const known = await readIfPresent(join(dataDir, MESH_FILE));
  const name = known === undefined ? "" : new TextDecoder().decode(known).trim();
  if (NAME_PATTERN.test(name)) return { mesh: name, listen };
  const invited = Promise.withResolvers<string>();
  const node = await listenFor(init, invited.resolve);
  try {
    const addresses = node.getMultiaddrs().map(String);
    logger.info("waiting for a mesh to join", { addresses });
    callListener(
      () => joinAny.onWaiting?.(addresses),
      (error) => logger.error("joinAny.onWaiting threw", { err: error }),
    );
    const mesh = await Promise.race([invited.promise, aborted(joinAny.signal)]);
    await writeDurably(dataDir, MESH_FILE, new TextEncoder().encode(`${mesh}\n`));
    return { mesh, listen: listen.map((address) => withPortOf(address, addresses)) };
  } finally {
    await node.stop();
  }
}

async function listenFor(
  { privateKey, listen }: InvitationInit,
  onInvited: (mesh: string) => void,
): Promise<Libp2p> {
  const rules: AdmissionRules = {
    protocol: OPEN_NOISE,
    begin: () => ({
      introduction: neverReached,
      judge: (message) => {
        if (message?.type === "meshName" && NAME_PATTERN.test(message.mesh)) onInvited(message.mesh);
        // To the other end as if nobody were here yet: it tries again, and finds a member of its mesh.
        throw new Error("not a member yet");
      },
      decision: neverReached,
      conclude: neverReached,
    }),
    onRefused: () => undefined,
  };
  try {
    for (const address of listen) await removeStaleSocket(address);
    return await createLibp2p({
      privateKey,
      addresses: { listen: [...listen] },
      transports: conduits(),
      connectionEncrypters: admissionEncrypters(rules),
      streamMuxers: [yamux()],
      connectionMonitor: { enabled: false },
      connectionManager: { maxIncomingPendingConnections: PENDING_MAX, inboundUpgradeTimeout: HANDSHAKE_MS },
    });
  } catch (error) {
    throw new MeshError("LISTEN_FAILED", `cannot listen on ${listen.join(", ")}`, { cause: error });
  }
}

function neverReached(): never {
  throw new Error("the handshake has ended");
}

async function aborted(signal: AbortSignal | undefined): Promise<never> {
  if (signal === undefined) return await new Promise<never>(() => undefined);
  if (!signal.aborted) await once(signal, "abort");
  throw new MeshError("STOPPED", "nobody asked this node to join a mesh", { cause: signal.reason });
}

/** The address with the port that the system chose for it. */
function withPortOf(address: string, actual: readonly string[]): string {
  if (!address.endsWith("/tcp/0")) return address;
  const family = `/${address.split("/")[1] ?? ""}/`;
  const found = actual.find((each) => each.startsWith(family) && each.includes("/tcp/"));
  const port = /\/tcp\/(\d+)/u.exec(found ?? "")?.[1];
  return port === undefined ? address : address.replace(/\/tcp\/0$/u, `/tcp/${port}`);
}
