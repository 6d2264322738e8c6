import { excerpt } from "@klatsch/kit";
import { z } from "zod";
import { MeshError } from "../errors.ts";
import { parseWith, signalSchema, tagsSchema } from "../schemas.ts";
import type { Member, WaitForOptions } from "../types.ts";

/** Node fires a timer with a longer delay at once. */
const TIMEOUT_MS_MAX = 2 ** 31 - 1;
/** Whatever a member's status may change by. */
const CHANGES = [
  "member:joined",
  "member:updated",
  "member:suspected",
  "member:refuted",
  "member:died",
  "member:stopped",
  "member:left",
  "member:forgotten",
] as const;

interface MemberWaitsPorts {
  members(): readonly Member[];
  on(event: (typeof CHANGES)[number], listener: (member: Member) => void): () => void;
}

/** Who waits until so many members are there. */
export class MemberWaits {
  readonly #ports: MemberWaitsPorts;
  readonly #ending = new AbortController();

  constructor(ports: MemberWaitsPorts) {
    this.#ports = ports;
  }

  /** See `Mesh.waitFor`. */
  async waitFor(options: WaitForOptions): Promise<readonly Member[]> {
    const { fits, count, what, signal, timeoutMs } = checked(options);
    this.#ending.signal.throwIfAborted();
    signal?.throwIfAborted();
    const there = new Set<string>();
    const ended = Promise.withResolvers<readonly Member[]>();
    const resolveIfDone = (): void => {
      if (there.size < count) return;
      ended.resolve(this.#ports.members().filter(({ peerId }) => there.has(peerId)));
    };
    // One at a time: thousands may join at once.
    const look = (member: Member): void => {
      if (fits(member)) there.add(member.peerId);
      else there.delete(member.peerId);
    };
    const onChange = (member: Member): void => {
      look(member);
      // Not before all is told that happened at once: who has just joined may have gone.
      if (there.size >= count) queueMicrotask(resolveIfDone);
    };
    const onAbort = ({ target }: Event): void => ended.reject((target as AbortSignal).reason);
    const onTime = (): void => {
      const reason = `${there.size} of ${count} members${what} after ${timeoutMs} ms`;
      ended.reject(new MeshError("TIMED_OUT", reason, { retryable: true }));
    };
    const ending = [this.#ending.signal, ...(signal === undefined ? [] : [signal])];
    const offs = CHANGES.map((event) => this.#ports.on(event, onChange));
    for (const each of ending) each.addEventListener("abort", onAbort);
    const timer = timeoutMs === undefined ? undefined : setTimeout(onTime, timeoutMs);
    this.#ports.members().forEach(look);
    resolveIfDone();
    try {
      return await ended.promise;
    } finally {
      for (const off of offs) off();
      for (const each of ending) each.removeEventListener("abort", onAbort);
      clearTimeout(timer);
    }
  }

  /** The mesh has stopped: nobody comes any more. */
  end(): void {
    this.#ending.abort(new MeshError("STOPPED", "the mesh has stopped"));
  }
}

interface Wanted extends Pick<WaitForOptions, "timeoutMs" | "signal"> {
  readonly count: number;
  readonly fits: (member: Member) => boolean;
  /** How a message goes on that tells of them. */
  readonly what: string;
}

const schema = z.strictObject({
  members: z.number().int().min(1).default(1),
  name: z.string().optional(),
  cloud: z.string().optional(),
  tags: tagsSchema.optional(),
  timeoutMs: z.number().min(0).max(TIMEOUT_MS_MAX).optional(),
  signal: signalSchema.optional(),
});

/** @throws MeshError `INVALID_OPTIONS`. */
function checked(options: WaitForOptions): Wanted {
  const { members: count, name, cloud, tags = {}, timeoutMs, signal } = parseWith(schema, options);
  const wanted = Object.entries(tags);
  const said = [
    ...(name === undefined ? [] : [`called ${excerpt(name)}`]),
    ...(cloud === undefined ? [] : [`in cloud ${excerpt(cloud)}`]),
    ...(wanted.length === 0 ? [] : [`with ${wanted.map(([key, value]) => `${key}=${value}`).join(" ")}`]),
  ];
  return {
    ...{ count, timeoutMs, signal },
    fits: (member) =>
      member.status === "alive" &&
      (name === undefined || member.name === name) &&
      (cloud === undefined || member.cloud === cloud) &&
      wanted.every(([key, value]) => Object.hasOwn(member.tags, key) && member.tags[key] === value),
    what: said.map((part) => ` ${part}`).join(""),
  };
}
