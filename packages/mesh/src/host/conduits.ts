import { lookup } from "node:dns/promises";
import { lstat, rm } from "node:fs/promises";
import { connect } from "node:net";
import type { Upgrader } from "@libp2p/interface";
import { memory } from "@libp2p/memory";
import { tcp } from "@libp2p/tcp";
import { multiaddr } from "@multiformats/multiaddr";
import type { Multiaddr } from "@multiformats/multiaddr";
import type { Libp2pOptions } from "libp2p";
import type { Conduit } from "../types.ts";
import { isMultiaddr } from "../schemas.ts";
import { boundedNegotiation } from "./lengths.ts";

type Transports = NonNullable<Libp2pOptions["transports"]>;

/** Nearest first: a module of the same process before a process of the same machine before the network. */
const NEAREST_FIRST: readonly Conduit[] = ["memory", "unix", "tcp"];

/** What carries bytes between nodes directly. The same code runs over all of them. */
export function conduits(): Transports {
  // Sockets of both kinds are TCP's transport in libp2p.
  return [tcp({ dialOpts: { noDelay: true }, listenOpts: { noDelay: true } }), memory()].map(bounded);
}

/** Whoever connects is a stranger until it is admitted: its negotiations have an end. */
function bounded(make: Transports[number]): Transports[number] {
  return (components) => {
    const transport = make(components);
    const dial = transport.dial.bind(transport);
    const createListener = transport.createListener.bind(transport);
    transport.dial = (address, options) =>
      dial(address, { ...options, upgrader: boundedUpgrader(options.upgrader) });
    transport.createListener = (options) =>
      createListener({ ...options, upgrader: boundedUpgrader(options.upgrader) });
    return transport;
  };
}

function boundedUpgrader(upgrader: Upgrader): Upgrader {
  const own = Object.create(upgrader) as Upgrader;
  own.upgradeInbound = (connection, options) =>
    upgrader.upgradeInbound(connection, { ...options, ...boundedNegotiation() });
  own.upgradeOutbound = (connection, options) =>
    upgrader.upgradeOutbound(connection, { ...options, ...boundedNegotiation() });
  return own;
}

/** What a multiaddr leads over; `undefined` if over none of them. */
export function conduitOf(address: Multiaddr): Conduit | undefined {
  const names = address.getComponents().map(({ name }) => name);
  return NEAREST_FIRST.find((conduit) => names.includes(conduit));
}

/** What the addresses are made of that these carry, without the peer. */
const CARRIED = /^(?:(?:ip6zone\/)?ip6|ip4|dns[46]?)\/tcp$|^unix$|^memory$/u;

/** Whether a node of our own can listen there. Whose peer id it is goes without saying. */
export function canListen(address: Multiaddr): boolean {
  return CARRIED.test(partsOf(address));
}

/** Whether a node of our own can dial it, which of a `dnsaddr` shows only when it is looked up. */
export function canDial(address: Multiaddr): boolean {
  const components = address.getComponents();
  if (components.some(({ name, value }) => name === "tcp" && value === "0")) return false;
  const isOpen = components.some(({ name }) => name === "dnsaddr");
  return isOpen || CARRIED.test(partsOf(address).replace(/\/p2p$/u, ""));
}

/** Whether it is `0.0.0.0` or `::`, in whichever way that is written. */
export function isUnspecified(address: Multiaddr): boolean {
  const host = address.getComponents().find(({ name }) => name === "ip4" || name === "ip6")?.value;
  return host !== undefined && /^(?:[0:]*:ffff:)?[0.:]+$/iu.test(host);
}

function partsOf(address: Multiaddr): string {
  return address
    .getComponents()
    .map(({ name }) => name)
    .join("/");
}

/** Addresses of one peer in the order in which to try them; those that cannot be its own are left out. */
export function inDialOrder(addresses: readonly string[], own: readonly string[]): string[] {
  // Names in process are told to everybody, but mean something in one process only: ours is not another's.
  const ourNames = new Set(own.filter((address) => conduitOf(multiaddr(address)) === "memory").map(placeOf));
  const order = new Map(NEAREST_FIRST.map((conduit, index) => [conduit, index]));
  const rank = (address: string): number => {
    // What members say of themselves, or of others: it may be no address at all, and is then one that cannot be dialled.
    if (!isMultiaddr(address)) return order.size;
    const conduit = conduitOf(multiaddr(address));
    return conduit === undefined ? order.size : (order.get(conduit) ?? order.size);
  };
  return addresses.filter((address) => !ourNames.has(placeOf(address))).toSorted((a, b) => rank(a) - rank(b));
}

/** A killed process leaves its unix socket behind, and nobody could listen there again. One that answers stays. */
export async function removeStaleSocket(address: string): Promise<void> {
  const path = multiaddr(address)
    .getComponents()
    .find(({ name }) => name === "unix")?.value;
  if (path === undefined) return;
  const code = await new Promise<unknown>((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(undefined);
    });
    socket.on("error", (error) => resolve("code" in error ? error.code : undefined));
  });
  if (code !== "ECONNREFUSED") return;
  // The same is said of any other file, which is not ours to remove.
  const found = await lstat(path).catch(() => undefined);
  if (found?.isSocket() === true) await rm(path, { force: true });
}

/** ECONNREFUSED, a unix socket or a name in process that is gone, or somebody else's key at the address. */
export function isRefusal(error: unknown, peer: string): boolean {
  if (!(error instanceof Error)) return false;
  const code = "code" in error ? error.code : undefined;
  if (code === "ECONNREFUSED" || code === "ENOENT") return true;
  // libp2p turns these into messages; tests hold it to this wording.
  if (error.message.startsWith("No memory listener found at ")) return true;
  return (
    error.message.includes("does not match expected remote identity key") && error.message.includes(peer)
  );
}

/** Names of hosts are looked up to this many addresses. */
const PLACES_MAX = 16;

/** What an address means: a name of several hosts means each of them. Rejects as `lookup` does. */
export async function placesOf(address: string): Promise<string[]> {
  const [first, ...rest] = multiaddr(address).getComponents();
  const host = first?.value;
  const family = first === undefined ? undefined : NAMES.get(first.name);
  if (host === undefined || family === undefined) return [address];
  const found = await lookup(host, { all: true, family });
  const tail = rest.map(({ name, value }) => `/${name}/${value ?? ""}`).join("");
  return found.slice(0, PLACES_MAX).map((each) => `/ip${each.family}/${each.address}${tail}`);
}

/** What names of hosts are of, and which kind of address they lead to; 0: both. */
const NAMES: ReadonlyMap<string, 0 | 4 | 6> = new Map([
  ["dns", 0],
  ["dns4", 4],
  ["dns6", 6],
]);

/** Whether a dial came to this node itself. libp2p's wording; a test holds it to that. */
export function isOurselves(error: unknown): boolean {
  return error instanceof Error && error.message.includes("dial self");
}

/** The address without the peer that is expected there. */
export function placeOf(address: string): string {
  return address.replace(/\/p2p\/[^/]+$/u, "");
}
