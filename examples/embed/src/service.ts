import { once } from "node:events";
import type { Server } from "node:http";
import type { Queue } from "@klatsch/queue";
import { QueueError } from "@klatsch/queue";
import type { ErrorRequestHandler, Express, Request, Response } from "express";
import express from "express";

/** When clients whose work was refused may try again, in seconds. */
const RETRY_AFTER_S = 5;

/** How long clients may take to end what they ask, in milliseconds: longer than an enqueue waits for its quorum. */
const CLIENTS_MS_MAX = 12_000;

/**
 * A service as it was before, but that what takes long goes into a queue: the request is answered as soon as a
 * majority of disks have the work, and any node of the mesh does it, also if this process ends now.
 */
export function createService(thumbnails: Queue): Express {
  const app = express();
  app.use(express.json({ limit: "64kb" }));

  const post = async (request: Request, response: Response): Promise<void> => {
    const { url } = (request.body ?? {}) as { url?: unknown }; // There is none of what does not call itself JSON.
    if (typeof url !== "string" || url === "") {
      response.status(400).json({ error: "url: is required" });
      return;
    }
    const { id } = await thumbnails.enqueue(Buffer.from(url), { headers: { from: request.ip ?? "" } });
    response.status(202).json({ id });
  };
  const depth = async (response: Response): Promise<void> => {
    const { ready, delayed, leased, dead, oldestAgeMs } = await thumbnails.counts();
    response.json({ ready, delayed, leased, dead, oldestAgeMs });
  };

  // Express 5 hands what rejects to the error handler.
  app.post("/pictures", (request, response) => post(request, response));
  app.get("/depth", (_request, response) => depth(response));
  app.use(onError);
  return app;
}

/**
 * Takes no more connections, answers what is asked on those that are there, and ends each with its answer: clients that keep them
 * alive and busy would hold the process for ever.
 */
export async function closeService(server: Server): Promise<void> {
  const closed = once(server, "close");
  server.prependListener("request", (_request, response) => {
    response.shouldKeepAlive = false;
  });
  server.keepAliveTimeout = 1; // For what is being answered now.
  server.close();
  const late = setTimeout(() => server.closeAllConnections(), CLIENTS_MS_MAX);
  await closed;
  clearTimeout(late);
}

/** What is refused, in the words of HTTP. Of the queue, `retryable` and `outcome` say what the client may do. */
const onError: ErrorRequestHandler = (error: unknown, _request, response, next) => {
  if (isClientError(error)) return response.status(error.status).json({ error: error.message });
  if (!(error instanceof QueueError)) return next(error);
  const { code, message, retryable, outcome, id } = error;
  if (retryable) response.set("Retry-After", String(RETRY_AFTER_S));
  response.status(code === "MESSAGE_TOO_LARGE" ? 413 : 503).json({ code, message, outcome, id });
};

/** What is no JSON, or too long, as Express says it. */
function isClientError(error: unknown): error is Error & { readonly status: number } {
  return error instanceof Error && "status" in error && Number(error.status) < 500;
}
