import { describe, expect, it } from "vitest";

import {
  BODY_BYTES_LIMIT,
  checkBody,
  parseChanges,
  parseConsume,
  parseEnqueue,
  parseItems,
  parseName,
  parsePublish,
  parseQueue,
  parseSchedule,
} from "../src/options.ts";

const invalid: unknown = expect.objectContaining({ name: "QueueError", code: "INVALID_OPTIONS" });

function thrower(): never {
  throw new Error("this getter throws");
}

function withGetter(name: string): never {
  return Object.defineProperty({}, name, { enumerable: true, get: thrower }) as never;
}

describe("options that an application cannot be asked for", () => {
  const { proxy: revoked, revoke } = Proxy.revocable({}, {});
  revoke();
  const hostile = new Proxy({}, { get: thrower, ownKeys: thrower, getPrototypeOf: thrower });
  const policy = parseQueue({});

  it.each([
    ["a getter", () => parseEnqueue(withGetter("timeoutMs"))],
    ["a getter of a publish", () => parsePublish(withGetter("key"))],
    ["a getter of changes", () => parseChanges(policy, withGetter("leaseMs"))],
    ["a proxy", () => parseConsume(hostile as never)],
    ["a proxy as a field, read for the message's sake", () => parseEnqueue({ priority: hostile as never })],
    ["a proxy for a body", () => parseSchedule({ queue: "a", everyMs: 1_000, body: hostile as never })],
    ["a revoked proxy", () => parseName(revoked as never)],
    ["a revoked proxy for a list", () => parseItems(revoked as never)],
  ])("are INVALID_OPTIONS: %s", (_, parse) => {
    expect(parse).toThrow(invalid);
  });

  it("are named although they are symbols", () => {
    const headers = { [Symbol("trace")]: "1" } as never;
    expect(() => parseEnqueue({ headers })).toThrow(/^options\.headers\.Symbol\(trace\): /);
  });
});

describe("a body of a class of the application's own", () => {
  class Liar extends Uint8Array {
    override get length(): number {
      return 2;
    }
  }

  class Thrower extends Uint8Array {
    override get length(): number {
      return thrower();
    }
  }

  it("is as long as what is copied of it, whatever it says", () => {
    const long: unknown = new Liar(BODY_BYTES_LIMIT + 1);
    expect(() => checkBody(long)).toThrow(expect.objectContaining({ code: "MESSAGE_TOO_LARGE" }));
    const mute: unknown = new Thrower(4);
    expect(() => checkBody(mute)).not.toThrow();
  });
});
