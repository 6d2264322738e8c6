/** A node: mesh, queues, calls and the socket for commands, started and stopped in order. */
import type { Logger } from "@klatsch/kit";
import { makeDirectory } from "@klatsch/kit/store";
import { createMesh, MeshError } from "@klatsch/mesh";
import type { Mesh } from "@klatsch/mesh";
import { createQueues } from "@klatsch/queue";
import type { Queues } from "@klatsch/queue";
import { createRpc } from "@klatsch/rpc";
import type { Rpc } from "@klatsch/rpc";
import type { NodeConfig } from "./config.ts";
import { createOperations } from "./operations.ts";
import type { Operations } from "./operation-types.ts";
import type { Farewell } from "./protocol.ts";
import { SocketServer } from "./server.ts";

export class Daemon {
  readonly mesh: Mesh;
  readonly #queues: Queues;
  readonly #rpc: Rpc;
  readonly #server: SocketServer;
  readonly #ended = Promise.withResolvers<Error | undefined>();
  #failure: Error | undefined;
  #departing: Promise<void> | undefined;

  private constructor(mesh: Mesh, queues: Queues, rpc: Rpc, server: SocketServer) {
    this.mesh = mesh;
    this.#queues = queues;
    this.#rpc = rpc;
    this.#server = server;
    mesh.on("mesh:failed", ({ error }) => this.#fail(error));
    queues.on("queues:failed", ({ error }) => this.#fail(error));
  }

  /**
   * `undefined` if `ending` aborted meanwhile.
   * @throws NodeError, MeshError or QueueError. Either way nothing is left running then.
   */
  static async start(
    { mesh: init, socket }: NodeConfig,
    logger: Logger,
    ending: AbortSignal,
  ): Promise<Daemon | undefined> {
    await makeDirectory(init.dataDir);
    const ready = Promise.withResolvers<Operations>();
    ready.promise.catch(() => undefined); // Perhaps nobody asks.
    // First of all: it tells whether a node runs here already, and a second one would harm the first.
    const server = await SocketServer.listen(socket, ready.promise);
    let mesh: Mesh | undefined;
    let failure: Error | undefined;
    try {
      ending.throwIfAborted();
      mesh = await createMesh({ ...init, logger });
      // Of a mesh that fails while the rest starts, that would say only that it has stopped.
      mesh.on("mesh:failed", ({ error }) => (failure = error));
      ending.throwIfAborted();
      const queues = await createQueues({ mesh, dataDir: init.dataDir, logger });
      const rpc = createRpc({ mesh, logger });
      const daemon = new Daemon(mesh, queues, rpc, server);
      if (ending.aborted) {
        ready.reject(ending.reason);
        await daemon.stop("stop");
        return undefined;
      }
      ready.resolve(createOperations({ mesh, queues, rpc, stop: (how) => daemon.#depart(how) }));
      return daemon;
    } catch (error) {
      ready.reject(error);
      await mesh?.stop();
      await server.close();
      // Perhaps it waited for a mesh to join.
      const isAborted = error === ending.reason || (error instanceof MeshError && error.code === "STOPPED");
      if (ending.aborted && isAborted) return undefined;
      throw failure ?? error;
    }
  }

  /** Resolves once everything has stopped; with the error if that is why. */
  get ended(): Promise<Error | undefined> {
    return this.#ended.promise;
  }

  /** Resolves once everything has stopped. May be called twice; the first call says how. */
  async stop(how: Farewell): Promise<void> {
    await this.#depart(how).catch(() => undefined); // `ended` tells.
    await this.ended;
  }

  /** Resolves once this node has left the mesh. The socket closes after that, when all are answered. */
  #depart(how: Farewell): Promise<void> {
    this.#departing ??= this.#leaveMesh(how)
      .catch((error: unknown) => {
        this.#failure ??= error instanceof Error ? error : new Error(String(error));
        throw error;
      })
      .finally(() => void this.#server.close().then(() => this.#ended.resolve(this.#failure)));
    return this.#departing;
  }

  async #leaveMesh(how: Farewell): Promise<void> {
    this.#server.refuse();
    try {
      await this.#rpc.stop(); // Whoever waits for an answer gets it within 10 s, or is told.
      await this.#queues.stop(); // Releases what is held while others can still hear of it.
    } finally {
      await (how === "leave" ? this.mesh.leave() : this.mesh.stop());
    }
  }

  #fail(error: Error): void {
    this.#failure ??= error;
    this.#depart("stop").catch(() => undefined); // `ended` tells.
  }
}
