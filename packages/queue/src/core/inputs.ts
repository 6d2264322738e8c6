import type { EnqueueResult } from "./lane-register.ts";
import type { Inspection, ManageRequest, ManageResult } from "./manage.ts";
import type { PeerStatus } from "./members.ts";
import type { Delivery, Message } from "./messages.ts";
import type { Persist } from "./records.ts";
import type {
  Attributes,
  Definition,
  LaneId,
  PeerId,
  Policy,
  QueueId,
  Resolution,
  SettledCode,
  Value,
  Verdict,
} from "./types.ts";

/** Everything that can happen to one node's queues. Instants are the monotonic clock's. */
export type QueueInput =
  | { readonly type: "tick" }
  | { readonly type: "message"; readonly from: PeerId; readonly message: Message }
  | { readonly type: "link"; readonly peer: PeerId; readonly up: boolean }
  | { readonly type: "peer"; readonly peer: PeerId; readonly status: PeerStatus }
  /** Others had declared this node dead. */
  | { readonly type: "declaredDead" }
  | { readonly type: "declare"; readonly definition: Definition }
  | {
      readonly type: "enqueue";
      readonly requestId: number;
      readonly queue: QueueId;
      readonly body: Uint8Array;
      readonly bodyHash: string;
      /** 0 for at once. */
      readonly notBeforeWallMs: number;
      readonly attributes: Attributes | undefined;
      readonly deadlineMs: number;
    }
  | {
      readonly type: "consume";
      readonly session: string;
      readonly queue: QueueId;
      readonly prefetch: number;
    }
  | { readonly type: "endConsumer"; readonly session: string }
  | {
      readonly type: "verdict";
      readonly requestId: number;
      readonly lane: LaneId;
      readonly seq: number;
      readonly epoch: number;
      readonly verdict: Verdict;
      readonly deadlineMs: number;
    }
  | {
      readonly type: "resolve" | "inspect";
      readonly requestId: number;
      readonly lane: LaneId;
      readonly seq: number;
      readonly deadlineMs: number;
    }
  | { readonly type: "pause"; readonly queue: QueueId; readonly paused: boolean }
  /** `undefined`: as it was declared. */
  | { readonly type: "alter"; readonly queue: QueueId; readonly policy: Policy | undefined }
  | ({ readonly type: "manage" } & ManageRequest)
  | {
      readonly type: "fetch";
      readonly requestId: number;
      readonly peer: PeerId;
      readonly lane: LaneId;
      readonly seq: number;
      readonly deadlineMs: number;
    };

/** A message leaves: `send` waits for the batch, `sendNow` reveals nothing unpersisted. */
export interface SendEffect {
  readonly type: "send" | "sendNow";
  readonly to: PeerId;
  readonly message: Message;
}

/** What a node's host does for the core. */
export type QueueEffect =
  | Persist
  | SendEffect
  | { readonly type: "enqueued"; readonly requestId: number; readonly result: EnqueueResult }
  | { readonly type: "deliver"; readonly item: Delivery }
  | {
      readonly type: "leaseLost";
      readonly session: string;
      readonly lane: LaneId;
      readonly seq: number;
      readonly epoch: number;
    }
  | { readonly type: "verdict"; readonly requestId: number; readonly code: SettledCode | "TIMEOUT" }
  | { readonly type: "resolved"; readonly requestId: number; readonly resolution: Resolution }
  | { readonly type: "managed"; readonly requestId: number; readonly result: ManageResult }
  | {
      readonly type: "inspected";
      readonly requestId: number;
      readonly found: readonly Inspection[];
      readonly missing: readonly PeerId[];
    }
  | { readonly type: "fetched"; readonly requestId: number; readonly body: Uint8Array | undefined }
  | { readonly type: "defined"; readonly definition: Definition }
  /** A queue that this node knew, or wanted to declare. */
  | { readonly type: "deleted"; readonly atWallMs: number; readonly definition: Definition }
  | { readonly type: "elected"; readonly queue: QueueId; readonly peer: PeerId }
  /** This node made the message dead; its value says why. */
  | {
      readonly type: "died";
      readonly queue: QueueId;
      readonly lane: LaneId;
      readonly seq: number;
      readonly value: Value;
    }
  | { readonly type: "stole"; readonly lane: LaneId; readonly queue: QueueId }
  /** The messages with this lane in their ids are all in an heir. */
  | {
      readonly type: "moved";
      readonly moved: { readonly lane: LaneId; readonly queue: QueueId; readonly heir: LaneId };
    }
  | { readonly type: "fault"; readonly what: string; readonly peer: PeerId };
