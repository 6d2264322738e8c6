import { afterAll, beforeAll, describe, expect, it } from "vitest";
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

  it("listeners and filters", () => {
    expect(() => mesh.on("member:joined", null as never)).toThrow(wrong("listener"));
    expect(() => mesh.topics.subscribe("t", null as never)).toThrow(wrong("listener"));
    expect(() => mesh.state.watch({ prefix: 5 as never }, () => undefined)).toThrow(wrong("filter.prefix"));
    expect(() => mesh.state.shared.watch(null as never, () => undefined)).toThrow(wrong("filter"));
    expect(() => mesh.state.entries(null as never)).toThrow(wrong("filter"));
    expect(() => mesh.state.delete(5 as never)).toThrow(wrong("key"));
  });
});
