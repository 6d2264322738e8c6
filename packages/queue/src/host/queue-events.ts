import type { QueuesEvents } from "../types.ts";

/** All there are. */
export const QUEUES_EVENTS: Readonly<Record<keyof QueuesEvents, true>> = {
  "store:quarantined": true,
  "queues:failed": true,
  "lane:stolen": true,
  "queue:deleted": true,
  "schedule:missed": true,
  "lane:moved": true,
  "protocol:fault": true,
};
