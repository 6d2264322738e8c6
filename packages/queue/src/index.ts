export { QueueError } from "./errors.ts";
export type { QueueErrorCode } from "./errors.ts";
export type { PeerId } from "./core/types.ts";
export { BODY_BYTES_LIMIT } from "./options.ts";
export { PublishError } from "./publish-error.ts";
export { createQueues } from "./queue.ts";
export type * from "./hooks.ts";
export type * from "./types.ts";
