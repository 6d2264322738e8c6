import type { Mesh } from "@klatsch/mesh";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import type { AttentionInit } from "../../src/host/attention.ts";
import { Attention } from "../../src/host/attention.ts";

const LOOK_MS = 1_000;

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A mesh in which these members have queues, and those are linked. */
class FakeMesh {
  readonly peerId = "self";
  readonly held = { closely: new Set<string>(), kept: new Set<string>() };
  readonly connected: string[] = [];
  fellows: readonly string[] = [];
  others: readonly string[] = [];
  linked: readonly string[] = [];
  readonly state = {
    set: () => undefined,
    delete: () => undefined,
    watch: () => () => undefined,
    entries: () => this.fellows.map((peerId) => ({ peerId })),
  };

  attend(peer: string, { closely }: { readonly closely: boolean }): () => void {
    const held = closely ? this.held.closely : this.held.kept;
    expect(held.has(peer)).toBe(false);
    held.add(peer);
    return () => void held.delete(peer);
  }

  member(peer: string) {
    return { status: "alive", linked: this.linked.includes(peer) };
  }

  members() {
    return ["self", ...this.others].map((peerId) => ({ peerId, ...this.member(peerId) }));
  }

  connect(peer: string): Promise<void> {
    this.connected.push(peer);
    return Promise.reject(new Error("no way"));
  }
}

function begin(init: Partial<AttentionInit> = {}) {
  const mesh = new FakeMesh();
  const ended: string[] = [];
  const onQueues = (peer: string, areThere: boolean): void => void ended.push(areThere ? `+${peer}` : peer);
  const given = { lanes: () => [], sessions: () => mesh.linked, onQueues, ...init };
  return { mesh, ended, attention: new Attention({ mesh: mesh as unknown as Mesh, ...given }) };
}

describe("what is shared", () => {
  it("keeps a link with each other replica for as long as a lane of theirs holds messages", () => {
    const lane = (size: number, ...peers: readonly string[]) => ({
      registers: { size },
      descriptor: { replicas: peers.map((peer) => ({ peer, store: "" })) },
    });
    let lanes = [lane(2, "self", "a", "b"), lane(0, "self", "c", "d"), lane(1, "b", "e", "self")];
    const { mesh, attention } = begin({ lanes: () => lanes });
    const { closely } = mesh.held;
    vi.advanceTimersByTime(LOOK_MS * 2);
    expect([...closely].toSorted()).toEqual(["a", "b", "e"]);
    lanes = [lane(0, "self", "a", "b"), lane(7, "self", "c", "b")];
    vi.advanceTimersByTime(LOOK_MS);
    expect([...closely].toSorted()).toEqual(["b", "c"]);
    attention.stop();
    expect([...closely]).toEqual([]);
    vi.advanceTimersByTime(LOOK_MS * 2);
    expect([...closely]).toEqual([]);
  });
});

describe("who has queues", () => {
  it("has them no more once its entry and its session are gone, but its mesh is not", () => {
    const { mesh, ended } = begin();
    mesh.others = ["a", "b"];
    mesh.fellows = ["self", "a", "b"];
    mesh.linked = ["a", "b"];
    vi.advanceTimersByTime(LOOK_MS);
    mesh.fellows = ["self"]; // As for a moment with a new boot.
    vi.advanceTimersByTime(LOOK_MS * 3);
    expect(ended).toEqual([]);
    mesh.linked = ["b"];
    vi.advanceTimersByTime(LOOK_MS);
    expect(ended).toEqual([]);
    vi.advanceTimersByTime(LOOK_MS * 2);
    expect(ended).toEqual(["a", "a"]); // Again and again: membership may say that it is there.
    mesh.fellows = ["self", "a", "b"];
    vi.advanceTimersByTime(LOOK_MS * 3);
    expect(ended.slice(2)).toEqual(["+a"]);
  });

  it("has none if for long neither an entry nor a session shows any", () => {
    const { mesh, ended } = begin();
    mesh.others = ["c"];
    vi.advanceTimersByTime(LOOK_MS * 9);
    expect(ended).toEqual([]);
    vi.advanceTimersByTime(LOOK_MS);
    expect(ended).toEqual(["c"]);
  });

  it("is kept in touch with, by a link or else by a way over others that is asked for again and again", () => {
    const { mesh, attention } = begin();
    mesh.fellows = ["self", "a", "b"];
    mesh.linked = ["a"];
    vi.advanceTimersByTime(LOOK_MS * 10);
    expect([...mesh.held.kept].toSorted()).toEqual(["a", "b"]);
    expect(mesh.connected).toEqual(["b", "b"]);
    vi.advanceTimersByTime(LOOK_MS * 40);
    expect(mesh.connected).toHaveLength(5); // After 3, 6, 12, 24, 48 looks.
    mesh.linked = ["a", "b"];
    vi.advanceTimersByTime(LOOK_MS * 60);
    expect(mesh.connected).toHaveLength(5);
    mesh.fellows = ["self", "b"];
    vi.advanceTimersByTime(LOOK_MS);
    expect([...mesh.held.kept]).toEqual(["b"]);
    attention.stop();
    expect([...mesh.held.kept]).toEqual([]);
  });
});
