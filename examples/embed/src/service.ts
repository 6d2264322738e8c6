import type { Queue } from "@klatsch/queue";
import { QueueError } from "@klatsch/queue";
import type { ErrorRequestHandler, Express, Request, Response } from "express";
import express from "express";

/** When clients whose work was refused may try again, in seconds. */
const RETRY_AFTER_S = 5;

/**
 * A service as it was before, but that what takes long goes into a queue: the request is answered as soon as a
 * majority of disks have the work, and any node of the mesh does it, also if this process ends now.
 */
export function createService(thumbnails: Queue): Express {
  const app = express();
  app.use(express.json({ limit: "64kb" }));

  const post = async (request: Request, response: Response): Promise<void> => {
    const { url } = request.body as { url?: unknown };
    if (typeof url !== "string" || url === "") {
      response.status(400).json({ error: "url: is required" });
      return;
    }
    const { id } = await thumbnails.enqueue(Buffer.from(url), { headers: { from: request.ip ?? "" } });
    response.status(202).location(`/pictures/${id}`).json({ id });
  };
  const depth = async (response: Response): Promise<void> => {
    const { ready, delayed, leased, dead, oldestAgeMs } = await thumbnails.counts();
    response.json({ ready, delayed, leased, dead, oldestAgeMs });
  };

  // Express 5 hands what rejects to the error handler.
  app.post("/pictures", (request, response) => post(request, response));
  app.get("/depth", (_request, response) => depth(response));
  app.use(onQueueError);
  return app;
}

/** What the queue refuses, in the words of HTTP: `retryable` and `outcome` say what the client may do. */
const onQueueError: ErrorRequestHandler = (error: unknown, _request, response, next) => {
  if (!(error instanceof QueueError)) return next(error);
  const { code, message, retryable, outcome, id } = error;
  if (retryable) response.set("Retry-After", String(RETRY_AFTER_S));
  response.status(code === "MESSAGE_TOO_LARGE" ? 413 : 503).json({ code, message, outcome, id });
};
