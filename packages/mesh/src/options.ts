import { isIP } from "node:net";
import { callListener, silentLogger, systemClock, systemRandom } from "@klatsch/kit";
import type { Clock, Logger, Random } from "@klatsch/kit";
import type { Libp2p } from "@libp2p/interface";
import { CODE_P2P, multiaddr } from "@multiformats/multiaddr";
import type { Multiaddr } from "@multiformats/multiaddr";
import { z } from "zod";
import type { AdmissionOptions } from "./admission/admission.ts";
import { Gate } from "./admission/gate.ts";
import { CLOUDS_MAX, PEER_PATTERN } from "./codec/record-codec.ts";
import { STATE_KEY_LENGTH_MAX } from "./codec/state-codec.ts";
import { HASH_PATTERN } from "./codec/statement-codec.ts";
import { MeshError, readable } from "./errors.ts";
import { givenNode } from "./given-node.ts";
import type { GivenNode } from "./given-node.ts";
import { canDial, canListen, isUnspecified } from "./host/conduits.ts";
import {
  addressSchema,
  clockSchema,
  directorySchema,
  functionSchema,
  isMultiaddr,
  LISTEN_MAX,
  loggerSchema,
  nameSchema,
  parseWith,
  portSchema,
  signalSchema,
  tagsSchema,
} from "./schemas.ts";
import type { ChannelClass, ClassLimits, LinkPeer, JoinAny, MeshInit } from "./types.ts";

const KIB = 1_024;
const MIB = 1_024 * KIB;
const DAY_MS = 24 * 60 * 60 * 1_000;
const DEFAULT_LISTEN: readonly string[] = ["/ip4/127.0.0.1/tcp/0"];
/** Addresses to join by. */
const BOOTSTRAP_MAX = 256;
/** Prefixes of shared keys, and the longest name of a capability. */
const PREFIXES_MAX = 256;
const CAPABILITY_LENGTH_MAX = 64;
/** A frame longer than this is refused whatever the options say: its length would not fit the header. */
const FRAME_BYTES_MAX: number = 1_024 * MIB;

/** {@link MeshInit} checked, with all defaults filled in that do not depend on a certificate. */
export interface MeshOptions {
  /** In a mesh of certificates, the certificate says this and the next three. */
  readonly name: string | undefined;
  readonly mesh: string | undefined;
  readonly cloud: string | undefined;
  readonly tags: Readonly<Record<string, string>> | undefined;
  readonly joinAny: JoinAny | undefined;
  readonly admission: AdmissionOptions;
  readonly listen: readonly string[];
  /** Empty: what the node listens on. */
  readonly announce: readonly string[];
  /** Bootstrap addresses by peer id. */
  readonly seeds: ReadonlyMap<string, readonly string[]>;
  /** Those that do not say whose they are. */
  readonly unnamedSeeds: readonly string[];
  readonly dataDir: string;
  /** The application's node and its key; `undefined`: one of our own. */
  readonly libp2p: GivenNode | undefined;
  /** Whether strangers can reach a listen address although anybody is let in. */
  readonly exposed: boolean;
  readonly sharedPrefixes?: Readonly<Record<string, string>> | undefined;
  readonly router: boolean;
  readonly mayLink: (peer: LinkPeer) => boolean;
  readonly forgetAfterMs: number;
  readonly frameBytesMax: number;
  readonly membersMax: number;
  readonly fullMeshUpTo: number;
  readonly degree: number | undefined;
  readonly gateway: boolean;
  readonly dialOnly: boolean;
  /** Clouds it may have links with besides its own; `undefined`: all. */
  readonly reach: readonly string[] | undefined;
  readonly inboundPerSecondMax: number;
  readonly queues: Readonly<Record<ChannelClass, ClassLimits>>;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly random: Random;
  readonly losesFrame: (peerId: string) => boolean;
}

/** Control is small and must never be refused for what others queue; bulk may hold whole re-replications. */
const QUEUES: Readonly<Record<ChannelClass, ClassLimits>> = {
  control: { queueFramesMax: 16_384, queueBytesMax: 16 * MIB },
  high: { queueFramesMax: 65_536, queueBytesMax: 32 * MIB },
  normal: { queueFramesMax: 65_536, queueBytesMax: 32 * MIB },
  bulk: { queueFramesMax: 65_536, queueBytesMax: 64 * MIB },
};

const count = (min: number, max: number): z.ZodNumber => z.number().int().min(min).max(max);
const limits = z.strictObject({ queueFramesMax: count(1, 2 ** 24), queueBytesMax: count(KIB, 2 ** 31) });
/** Of what is no address at all, `addressSchema` tells. */
const isFit = (value: string, fits: (address: Multiaddr) => boolean): boolean =>
  !isMultiaddr(value) || fits(multiaddr(value));
const listenSchema = addressSchema.refine(
  (value) => isFit(value, canListen),
  "must be tcp, unix or memory, without a peer id",
);
const CANNOT_DIAL = "cannot be dialled: must be tcp with a port, unix or memory";
const dialSchema = addressSchema.refine((value) => isFit(value, canDial), CANNOT_DIAL);
/** All addresses of a machine are for listening: each that dialled them would dial itself. */
const announceSchema = dialSchema.refine(
  (value) => isFit(value, (address) => !isUnspecified(address)),
  "is no address that others can dial: it means whoever dials it",
);
const schema = z.strictObject({
  name: nameSchema.optional(),
  listen: z.array(listenSchema).max(LISTEN_MAX).optional(),
  announce: z.array(announceSchema).max(LISTEN_MAX).default([]),
  libp2p: portSchema<Libp2p>("getConnections").optional(),
  bootstrap: z
    .array(addressSchema.refine((value) => isFit(value, mayJoinBy), "ends in no peer id of a member"))
    .max(BOOTSTRAP_MAX)
    .default([]),
  dataDir: directorySchema,
  mesh: nameSchema.optional(),
  joinAny: z
    .strictObject({
      onWaiting: functionSchema<NonNullable<JoinAny["onWaiting"]>>().optional(),
      signal: signalSchema.optional(),
    })
    .optional(),
  cloud: nameSchema.optional(),
  tags: tagsSchema.optional(),
  admission: z
    .union([
      z.enum(["open", "certificate"]),
      z.strictObject({
        certificate: z.string().min(1).optional(),
        meshId: z.string().regex(HASH_PATTERN, "must be 64 hexadecimal digits").optional(),
        gate: z.instanceof(Gate, { error: "must be of meshGate()" }).optional(),
      }),
    ])
    .optional(),
  sharedPrefixes: z
    .record(z.string().min(1).max(STATE_KEY_LENGTH_MAX), z.string().min(1).max(CAPABILITY_LENGTH_MAX))
    .refine(
      (prefixes) => Object.keys(prefixes).length <= PREFIXES_MAX,
      `has more than ${PREFIXES_MAX} entries`,
    )
    .optional(),
  router: z.boolean().default(true),
  mayLink: functionSchema<(peer: LinkPeer) => boolean>().optional(),
  forgetAfterMs: count(1_000, 365 * DAY_MS).default(DAY_MS),
  frameBytesMax: count(KIB, FRAME_BYTES_MAX).default(16 * MIB),
  membersMax: count(2, 4_096).default(4_096),
  fullMeshUpTo: count(1, 256).default(16),
  degree: count(4, 256).optional(),
  gateway: z.boolean().default(false),
  dialOnly: z.boolean().default(false),
  reach: z.array(nameSchema).max(CLOUDS_MAX).optional(),
  inboundPerSecondMax: count(1, 100_000).default(200),
  queues: z
    .strictObject({ control: limits, high: limits, normal: limits, bulk: limits })
    .partial()
    .default({}),
  logger: loggerSchema.default(silentLogger),
  clock: clockSchema.default(systemClock),
  random: portSchema<Random>("uint32").default(systemRandom),
  losesFrame: functionSchema<(peerId: string) => boolean>().optional(),
});

/** A peer may have addresses for others besides. @throws MeshError `INVALID_OPTIONS` if it has none for us. */
function checkDialled(bootstrap: readonly string[]): void {
  const ofWhom = (address: string): string => peerOf(address) ?? address;
  const dialled = new Set(bootstrap.filter((address) => isFit(address, canDial)).map(ofWhom));
  const at = bootstrap.findIndex((address) => !dialled.has(ofWhom(address)));
  if (at >= 0) throw new MeshError("INVALID_OPTIONS", `bootstrap[${at}]: ${CANNOT_DIAL}`);
}

/** Tags as they may be. @throws MeshError `INVALID_OPTIONS` naming the tag. */
export function resolveTags(given: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return parseWith(z.strictObject({ tags: tagsSchema }), { tags: given }).tags;
}

/** Checks and completes the options. @throws MeshError `INVALID_OPTIONS` naming the field. */
export function resolveOptions(init: MeshInit): MeshOptions {
  const { admission, bootstrap, queues, name, mesh, cloud, libp2p, joinAny, ...options } = parseWith(
    schema,
    init,
  );
  if (joinAny !== undefined && (mesh ?? libp2p) !== undefined)
    throw new MeshError("INVALID_OPTIONS", "joinAny: is in place of mesh, and for a node of its own");
  if (joinAny !== undefined && admissionOf(admission).mode === "certificate")
    throw new MeshError("INVALID_OPTIONS", "joinAny: a certificate says which mesh it is");
  const given = libp2p === undefined ? undefined : readable("libp2p", () => givenNode(libp2p, init));
  if (given === undefined) checkDialled(bootstrap); // A given node may have other transports.
  const admitting = admissionOf(admission);
  checkGate(admitting, given !== undefined);
  const listen = given?.node.getMultiaddrs().map(String) ?? options.listen ?? DEFAULT_LISTEN;
  const isExposed = !listen.every(isLocal);
  if (isExposed && admission === undefined) {
    const certificates = '"certificate", or "open"';
    const why = "since then anybody who knows the mesh name is let in";
    throw new MeshError(
      "INVALID_OPTIONS",
      `admission: must be ${certificates} to listen beyond loopback, ${why}`,
    );
  }
  return {
    ...options,
    joinAny,
    ...{ name, mesh, cloud, tags: options.tags, listen, libp2p: given },
    admission: admitting,
    exposed: isExposed && admission === "open",
    degree: options.degree,
    reach: options.reach,
    // Tunnels are a transport, and a given node has its own.
    router: options.router && given === undefined,
    mayLink: safely(options.mayLink ?? (() => true), options.logger),
    losesFrame: options.losesFrame ?? (() => false),
    seeds: seedsOf(bootstrap),
    unnamedSeeds: bootstrap.filter((address) => peerOf(address) === undefined).map(normal),
    queues: { ...QUEUES, ...withoutUndefined(queues) },
  };
}

/** It is asked from timers, and within what peers say: what it throws must not end either. Then no link is wanted. */
function safely(mayLink: (peer: LinkPeer) => boolean, logger: Logger): (peer: LinkPeer) => boolean {
  let hasFailed = false;
  const failed = (err: unknown): false => {
    if (!hasFailed) logger.error("mayLink has failed: no direct link is wanted where it does", { err });
    hasFailed = true;
    return false;
  };
  return (peer) => {
    try {
      const wanted: unknown = mayLink(peer);
      if (typeof wanted === "boolean") return wanted;
      callListener(() => wanted, failed); // It may be a promise.
      return failed(new TypeError("mayLink: must return true or false"));
    } catch (error) {
      return failed(error);
    }
  };
}

function admissionOf(asked: z.infer<typeof schema>["admission"]): AdmissionOptions {
  if (asked === undefined || asked === "open") return { mode: "open" };
  const given = { certificate: undefined, meshId: undefined, gate: undefined };
  return { ...given, ...(asked === "certificate" ? {} : asked), mode: "certificate" };
}

/** A node of the application's makes its connections without asking the mesh, but for those that pass a gate. */
function checkGate(admission: AdmissionOptions, isGuest: boolean): void {
  const gate = admission.mode === "certificate" ? admission.gate : undefined;
  if (gate !== undefined && !isGuest)
    throw new MeshError("INVALID_OPTIONS", "admission.gate: is for a mesh inside a given libp2p node");
  if (isGuest && admission.mode === "certificate" && gate === undefined)
    throw new MeshError(
      "INVALID_OPTIONS",
      "admission.gate: is needed inside a given libp2p node: give it meshGate().encrypters when it is created",
    );
}

function withoutUndefined(
  queues: Partial<Record<ChannelClass, ClassLimits | undefined>>,
): Partial<Record<ChannelClass, ClassLimits>> {
  const given: Partial<Record<ChannelClass, ClassLimits>> = {};
  for (const [trafficClass, value] of Object.entries(queues)) {
    if (value !== undefined) given[trafficClass as ChannelClass] = value;
  }
  return given;
}

function seedsOf(bootstrap: readonly string[]): ReadonlyMap<string, readonly string[]> {
  const seeds = new Map<string, string[]>();
  for (const value of bootstrap) {
    const peer = peerOf(value);
    if (peer !== undefined) seeds.set(peer, [...(seeds.get(peer) ?? []), value]);
  }
  return seeds;
}

/** As libp2p writes it. */
function normal(address: string): string {
  return multiaddr(address).toString();
}

/** Either it says whose it is, or it does not. */
function mayJoinBy(address: Multiaddr): boolean {
  const last = address.getComponents().at(-1);
  return last?.code !== CODE_P2P || PEER_PATTERN.test(last.value ?? "");
}

/** The peer id an address ends in. */
function peerOf(value: string): string | undefined {
  if (!isMultiaddr(value)) return undefined;
  const last = multiaddr(value).getComponents().at(-1);
  return last?.code === CODE_P2P && PEER_PATTERN.test(last.value ?? "") ? last.value : undefined;
}

/** Loopback, a unix socket or in-process: reachable from this machine only. */
function isLocal(value: string): boolean {
  const first = multiaddr(value).getComponents()[0];
  if (first?.name === "unix" || first?.name === "memory") return true;
  const host = first?.value ?? "";
  if (isIP(host) === 4) return host.startsWith("127.");
  return host === "::1" || host === "0:0:0:0:0:0:0:1";
}
