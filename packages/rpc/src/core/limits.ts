/** Longest packed item (an ask, a reply, one item of a stream), in bytes. Longer things are streams. */
export const ITEM_BYTES_MAX: number = 4 * 1_024 * 1_024;
/** Lists, maps, entries of maps, byte strings and instants in it: what takes a decoder longer than its bytes would tell. */
export const ITEM_PARTS_MAX: number = 256 * 1_024;
/** Items longer than this are cut into chunks of this size, in bytes. */
export const CHUNK_BYTES: number = 32 * 1_024;
/** A frame is closed at this size, in bytes: the longest that the mesh sends in one piece. */
export const FRAME_BYTES = 65_501;
/** Items in one frame. */
export const FRAME_ITEMS_MAX = 8_192;
/** Large items that are cut up and interleaved at a time, for each peer and class. */
export const FLOWS_MAX = 8;
/** Bytes on their way to a peer in one class that it has not confirmed; small items wait beyond it. */
export const WINDOW_BYTES: number = 2 * 1_024 * 1_024;
/** The same for chunks, lower: so a small item finds room at once. */
export const CHUNK_WINDOW_BYTES: number = 1_024 * 1_024;
/** Received bytes are confirmed in steps of this size. */
export const CONFIRM_BYTES: number = 128 * 1_024;
/** Bytes that may wait for one peer in one class; then new asks are refused with `OVERLOADED`, and answers and streams wait. */
export const OUTBOX_BYTES_MAX: number = 32 * 1_024 * 1_024;
/** What is short leaves before all else, so there is room for it up to here. What is no longer is short. */
export const OUTBOX_SHORT_BYTES_MAX: number = 40 * 1_024 * 1_024;
export const SHORT_BYTES = 4_096;
/** Answers and streams that wait for one peer in one class; then its asks are refused with `OVERLOADED`. */
export const WAITING_MAX = 1_024;
/** Items of a stream that may be under way and unread, each way. */
export const STREAM_ITEMS_MAX = 64;
/** No more of them leave once those among them that travel in chunks have so many bytes. */
export const STREAM_BYTES_MAX: number = 2 * 1_024 * 1_024;
/** Times one call is sent again by itself. */
export const ATTEMPTS_MAX = 4;
/** Bytes of the calls of one peer, of all casts, and of one subscription's values that came in chunks and whose handlers run. */
export const HELD_BYTES_MAX: number = 128 * 1_024 * 1_024;
/** Results kept for calls with an idempotency key, oldest given up first. */
export const KEPT_RESULTS_MAX = 4_096;
/** Bytes that they have together. */
export const KEPT_BYTES_MAX: number = 64 * 1_024 * 1_024;
/** How long they are kept, in milliseconds. */
export const KEPT_RESULTS_MS = 300_000;
/** Default deadline of a call, in milliseconds. */
export const DEADLINE_MS = 10_000;
/** Default of how long a stop waits for what is under way, in milliseconds: as long as a call may take by default. */
export const GRACE_MS = 10_000;
/** How long others may take to hear that this node stops, in milliseconds. */
export const FAREWELL_MS = 1_000;
/** How long tasks that were told to end then are waited for, in milliseconds. */
export const ABORTED_TASKS_MS = 1_000;
/** Longest deadline that can be asked for, in milliseconds. */
export const DEADLINE_MS_MAX = 2_147_483_647;
/** Longest name of a method, topic or idempotency key. */
export const NAME_LENGTH_MAX = 200;
/** Longest message of a fault; the rest is cut. */
export const FAULT_LENGTH_MAX = 2_000;
/** Longest target expression. */
export const TARGET_LENGTH_MAX = 4_096;
/** Longest `traceparent`; later versions of it may have more fields than the 55 characters of today. */
export const TRACE_LENGTH_MAX = 128;
/** Deepest nesting of a target expression. */
export const TARGET_DEPTH_MAX = 64;
/** Casts whose handlers run at once on one node; more are dropped and counted. As many as come in one turn of the event loop. */
export const CASTS_MAX = 16_384;
/** Values whose handler runs at once, of one subscription; more are dropped and counted. As many as come in one turn of the event loop. */
export const HEARD_MAX = 16_384;
/** Values kept of one topic for late joiners, and topics with a history, on the node that emitted them. */
export const HISTORY_MAX = 64;
export const TOPICS_MAX = 1_024;
/** Numbers remembered of each sender's process of what came over gossip or may still, and senders remembered. */
export const SPREAD_SEEN_MAX = 512;
export const SPREADERS_MAX = 4_096;
/** Children of one node in the tree of a gather. */
export const FANOUT_MAX = 64;
export const FANOUT = 8;
/** Members one gather may ask. */
export const GATHER_TARGETS_MAX = 16_384;
/** A node below the root reports once before its end, this long after its first answer, in milliseconds. */
export const GATHER_HOLD_MS = 20;
/** Items kept by the reducers `set`, `top` and `concat`. */
export const REDUCED_ITEMS_MAX = 16_384;
/** Peers that one call of `Rpc.any` tries. */
export const HEDGED_MAX = 4;
/** Tags whose tasks a node takes, in the order in which it has them. */
export const TAG_SCOPES_MAX = 32;
/** How long a task of `once` that failed too often is kept, in milliseconds. */
export const TASK_DEAD_TTL_MS: number = 7 * 24 * 3_600_000;
/** Asks with one key that wait for the same run. */
export const ASKERS_MAX = 64;
