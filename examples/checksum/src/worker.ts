import { setTimeout as delay } from "node:timers/promises";
import { createMesh } from "@klatsch/mesh";
import type { Mesh } from "@klatsch/mesh";
import { createQueues, QueueError } from "@klatsch/queue";
import type { Consumer, Queue, Queues } from "@klatsch/queue";
import { digestOf, forEachLimited } from "./files.ts";
import { decode, encode, nowMs } from "./protocol.ts";
import type { Counters, Done, FromNode, Job, Result, ToNode } from "./protocol.ts";

/** Enqueues under way at a time. */
const IN_FLIGHT_MAX = 512;
/** Files open at a time. */
const FILES_MAX = 256;
/** Digests on their way to the starter at a time. */
const DIGESTS_MAX = 512;
/** How often this node reports to the starter, in milliseconds. */
const REPORT_MS = 25;

/** One node: a process with a mesh, its queues, and no idea that it runs beside its peers. */
class Worker {
  readonly #reporter = new Reporter(() => this.#counters());
  #directory = "";
  #name = "";
  #mesh: Mesh | undefined;
  #queues: Queues | undefined;
  #files: Queue | undefined;
  #consumers: Consumer[] = [];
  #bytesRead = 0;

  async onMessage(message: ToNode): Promise<void> {
    switch (message.type) {
      case "setup":
        return await this.#setUp(message);
      case "enqueue":
        return await forEachLimited(message.jobs, IN_FLIGHT_MAX, (job) => this.#enqueue(job));
      case "drain":
        await Promise.all(this.#consumers.map((consumer) => consumer.stop()));
        await this.#reporter.flush();
        return await tell({ type: "drained", counters: this.#counters() });
      case "stop":
        await this.#queues?.stop();
        await this.#mesh?.stop();
        process.disconnect(); // See below: that ends the process.
    }
  }

  async #setUp(setup: ToNode & { type: "setup" }): Promise<void> {
    const { name, dataDir, bootstrap, nodes } = setup;
    this.#name = name;
    this.#directory = setup.directory;
    const mesh = await createMesh({ name, dataDir, bootstrap });
    this.#mesh = mesh;
    await tell({ type: "listening", addresses: mesh.addresses() });

    const queues = await createQueues({ mesh, dataDir });
    this.#queues = queues;
    queues.on("queues:failed", ({ error }) => fail(error));
    const replicas = nodes < 3 ? 1 : 3;
    const files = await queues.declare("files", { replicas });
    const digests = await queues.declare("digests", { replicas });
    this.#files = files;
    this.#consumers = [
      files.consume(({ body }) => this.#sum(decode(body) as Job, digests), { prefetch: FILES_MAX }),
      // Acknowledged once the starter has it: if this node dies before that, another gets the digest.
      digests.consume(({ body }) => this.#reporter.done({ ...(decode(body) as Result), doneAt: nowMs() }), {
        prefetch: DIGESTS_MAX,
      }),
    ];
    await seeOthers(queues, nodes - 1);
    await tell({ type: "ready" });
  }

  async #enqueue({ file, path }: Pick<Job, "file" | "path">): Promise<void> {
    for (;;) {
      try {
        await this.#files?.enqueue(encode({ file, path, enqueuedAt: nowMs() }));
        return this.#reporter.enqueued(file);
      } catch (error) {
        // Indeterminate: it may be in the queue already. Better twice than never.
        const again = error instanceof QueueError && (error.retryable || error.code === "INDETERMINATE");
        if (!again) throw error;
        await delay(100);
      }
    }
  }

  /** Acknowledges by returning, and not before a quorum has the digest. Throwing brings the job back. */
  async #sum({ file, path, enqueuedAt }: Job, digests: Queue): Promise<void> {
    const outcome = await digestOf(this.#directory, path, (count) => (this.#bytesRead += count));
    await digests.enqueue(encode({ file, node: this.#name, enqueuedAt, outcome }));
  }

  #counters(): Counters {
    const [files, digests] = this.#consumers.map((consumer) => consumer.stats);
    return {
      bytesRead: this.#bytesRead,
      electionsWon: files?.delivered ?? 0,
      redelivered: (files?.redelivered ?? 0) + (digests?.redelivered ?? 0),
    };
  }
}

/** Collects what the starter has to know into a message every few milliseconds. */
class Reporter {
  readonly #counters: () => Counters;
  #enqueued: number[] = [];
  #done: Done[] = [];
  #next: Promise<void> | undefined;

  constructor(counters: () => Counters) {
    this.#counters = counters;
    // Even without results: the bytes of a huge file are progress.
    setInterval(() => void this.flush(), 1_000);
  }

  enqueued(file: number): void {
    this.#enqueued.push(file);
    void this.#soon();
  }

  /** Resolves once the starter has it, even if this process is killed right after. */
  done(result: Done): Promise<void> {
    this.#done.push(result);
    return this.#soon();
  }

  #soon(): Promise<void> {
    this.#next ??= delay(REPORT_MS).then(() => this.flush());
    return this.#next;
  }

  async flush(): Promise<void> {
    const report = { enqueued: this.#enqueued, done: this.#done };
    this.#enqueued = [];
    this.#done = [];
    this.#next = undefined;
    await tell({ type: "report", ...report, counters: this.#counters() });
  }
}

/** Waits for the queues of `others` nodes: a queue placed before would have too few replicas. */
async function seeOthers(queues: Queues, others: number): Promise<void> {
  while (queues.stats().peers < others) await delay(20);
}

/** Resolves once the bytes are in the pipe, where the starter finds them whatever happens to us. */
async function tell(message: FromNode): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    process.send?.(message, undefined, undefined, (error: Error | null) =>
      error === null ? resolve() : reject(error),
    );
  });
}

function fail(error: unknown): void {
  const reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
  void tell({ type: "failed", reason }).finally(() => process.exit(1));
}

const worker = new Worker();
process.on("message", (message) => void worker.onMessage(message as ToNode).catch(fail));
process.on("unhandledRejection", fail);
// The starter has ended, however it did, or said `stop`. What is in the queues is thrown away with them.
process.on("disconnect", () => process.exit(0));
// Ctrl-C goes to the whole group of processes; the starter decides what happens then.
process.on("SIGINT", () => undefined);
