import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createMesh, MeshError } from "@klatsch/mesh";
import type { Mesh } from "@klatsch/mesh";
import { Bed } from "./helpers.ts";

let bed: Bed;
let mesh: Mesh;
beforeAll(async () => {
  bed = new Bed();
  mesh = await bed.mesh("a");
});
afterAll(() => bed[Symbol.asyncDispose]());

const wrong = (field: string): unknown =>
  expect.objectContaining({
    name: "MeshError",
    code: "INVALID_OPTIONS",
    message: expect.stringMatching(`^${field.replaceAll(".", "\\.")}: `),
  });
const handlers = { onUp: () => undefined, onDown: () => undefined, onFrame: () => undefined };
const bytes = new Uint8Array(1);

describe("what plain JavaScript passes by mistake is refused with the field's name", () => {
  it.each([
    ["name", null, handlers],
    ["name", 5, handlers],
    ["handlers", "x", null],
    ["handlers.onUp", "x", {}],
    ["handlers.onFrame", "x", { ...handlers, onFrame: 5 }],
    ["options", "x", handlers, "bulk"],
    ["options.class", "x", handlers, { class: "urgent" }],
  ])("%s of a channel", (field, ...given) => {
    const register = (): unknown => mesh.channel(...(given as unknown as Parameters<Mesh["channel"]>));
    expect(register).toThrow(wrong(field));
    mesh.channel("x", handlers).close(); // Nothing was left behind.
  });

  it("a frame", () => {
    const channel = mesh.channel("x", handlers);
    for (const frame of [null, "text", [1]]) {
      expect(() => channel.send("peer", frame as never)).toThrow(wrong("frame"));
    }
    channel.close();
  });

  it.each([
    ["peerId", null],
    ["options", "peer", null],
    ["options.class", "peer", { class: "urgent" }],
    ["options.waitMs", "peer", { waitMs: Number.NaN }],
    ["options.signal", "peer", { signal: {} }],
  ])("%s of a connection", async (field, ...given) => {
    const connect = mesh.connect(...(given as unknown as Parameters<Mesh["connect"]>));
    await expect(connect).rejects.toEqual(wrong(field));
  });

  it.each([
    ["topic", null, bytes],
    ["body", "t", "text"],
    ["options", "t", bytes, null],
    ["to", "t", bytes, { to: "bad" }],
    ["to", "t", bytes, { to: null }],
    ["to.tag", "t", bytes, { to: {} }],
    ["to.cloud", "t", bytes, { to: { cloud: 5 } }],
    ["to.tag.key", "t", bytes, { to: { tag: { key: 5 } } }],
    ["to.tag.value", "t", bytes, { to: { tag: { key: "k", value: 5 } } }],
  ])("%s of a message on a topic", async (field, ...given) => {
    const publish = mesh.topics.publish(...(given as unknown as Parameters<Mesh["topics"]["publish"]>));
    await expect(publish).rejects.toEqual(wrong(field));
  });

  it("names of members and events", async () => {
    const unknown = (): unknown => mesh.on("member:join" as never, () => undefined);
    expect(unknown).toThrow(wrong("event"));
    expect(() => mesh.on("toString" as never, () => undefined)).toThrow(wrong("event"));
    for (const given of [null, undefined, 5, Symbol("a"), {}] as unknown as string[]) {
      expect(() => mesh.resolve(given)).toThrow(wrong("name"));
      expect(() => mesh.attend(given)).toThrow(wrong("peerId"));
      expect(() => mesh.neighbours(given)).toThrow(wrong("peerId"));
      await expect(mesh.trace(given)).rejects.toEqual(wrong("peerId"));
      await expect(mesh.isGone(given, 1)).rejects.toEqual(wrong("peerId"));
    }
    for (const boot of ["x", null, 1.5, -1, Number.NaN] as number[])
      await expect(mesh.isGone("peer", boot)).rejects.toEqual(wrong("boot"));
  });

  it("calls after the end, but for attend, which others make from timers", async () => {
    const ended = await bed.mesh("ended");
    await ended.stop();
    const stopped = expect.objectContaining({ code: "STOPPED" });
    await expect(ended.trace("peer")).rejects.toEqual(stopped);
    await expect(ended.isGone("peer", 1)).rejects.toEqual(stopped);
    await expect(ended.connect("peer")).rejects.toEqual(stopped);
    ended.attend("peer")();
  });

  it("what is long, and the beginning is enough to know it by", async () => {
    const long = "x".repeat(100_000);
    const thrown = [
      () => mesh.resolve(long),
      () => mesh.connect(long),
      () => mesh.state.shared.set(long, 1),
      () => createMesh({ dataDir: long }),
      () => createMesh({ dataDir: "d", [long]: 1 }),
      () => createMesh({ dataDir: "d", tags: { [long]: long } }),
      () => createMesh({ dataDir: "d", bootstrap: Array.from({ length: 256 }, () => long) }),
    ].map(async (call) => {
      await expect((async () => await call())()).rejects.toSatisfy(
        (error) => error instanceof MeshError && error.message.length < 1_000,
      );
    });
    await Promise.all(thrown);
  });

  it("options that throw when they are looked at, or only look like signals", async () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    const hollow = Object.create(AbortSignal.prototype) as AbortSignal;
    const given = proxy as never;
    const calls: readonly (readonly [string, () => unknown])[] = [
      ["options", () => createMesh(given)],
      ["options", () => createMesh({ dataDir: "d", libp2p: given })],
      ["options", () => mesh.setTags(given)],
      ["options", () => mesh.waitFor({ tags: given })],
      ["options", () => mesh.waitFor({ signal: hollow })],
      ["options", () => mesh.connect("peer", { signal: hollow })],
      ["options", () => mesh.connect("peer", given)],
      ["options", () => mesh.attend("peer", given)],
      ["options", () => mesh.channel("x", handlers, given)],
      ["handlers", () => mesh.channel("x", given)],
      ["options", () => mesh.topics.publish("t", bytes, given)],
      ["options", () => mesh.topics.publish("t", bytes, { to: given })],
      ["body", () => mesh.topics.publish("t", given)],
      ["filter", () => mesh.state.entries(given)],
      ["filter", () => mesh.state.watch(given, () => undefined)],
      ["filter", () => mesh.state.shared.watch(given, () => undefined)],
      ["options", () => mesh.state.shared.set("k", 1, given)],
      ["options", () => mesh.state.shared.delete("k", given)],
    ];
    for (const [field, call] of calls)
      await expect((async () => await call())()).rejects.toEqual(wrong(field));
  });

  it("values of state that throw when they are looked at", async () => {
    const throwing = {
      get value(): never {
        throw new Error("mine");
      },
    };
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    const invalid = expect.objectContaining({ code: "STATE_INVALID" });
    for (const value of [throwing, proxy]) {
      expect(() => mesh.state.set("k", value)).toThrow(invalid);
      await expect(mesh.state.shared.set("k", value)).rejects.toEqual(invalid);
    }
  });

  it("lists of state with gaps, however long they are", () => {
    let reached = false;
    const list: number[] = [];
    Object.defineProperty(list, 1_000_000, { enumerable: true, get: () => (reached = true) });
    expect(() => mesh.state.set("k", list)).toThrow(expect.objectContaining({ code: "STATE_INVALID" }));
    expect(reached).toBe(false);
  });

  it("listeners and filters", () => {
    expect(() => mesh.on("member:joined", null as never)).toThrow(wrong("listener"));
    expect(() => mesh.topics.subscribe("t", null as never)).toThrow(wrong("listener"));
    expect(() => mesh.state.watch({ prefix: 5 as never }, () => undefined)).toThrow(wrong("filter.prefix"));
    expect(() => mesh.state.shared.watch(null as never, () => undefined)).toThrow(wrong("filter"));
    expect(() => mesh.state.entries(null as never)).toThrow(wrong("filter"));
    expect(() => mesh.state.delete(5 as never)).toThrow(wrong("key"));
    expect(() => mesh.state.get("peer", 5 as never)).toThrow(wrong("key"));
    expect(() => mesh.attend("peer", { closely: 1 as never })).toThrow(wrong("options.closely"));
  });
});
