import type { Ed25519PrivateKey } from "@libp2p/interface";
import { announcementBytes } from "../codec/record-codec.ts";
import type { MemberMessage, MemberRecord, View, ViewStatus } from "../core/messages.ts";
import { Signing } from "../host/signing.ts";

/** Announcements known to be good: most of what comes is told by several members. */
const CHECKED_MAX = 4_096;

interface Checked {
  readonly bytes: Uint8Array;
  readonly signature: Uint8Array;
}

interface AnnouncementsInit {
  /** Whether one more signature that came from this peer may be checked now. */
  mayCheck(from: string): boolean;
  /** Peer id of this node. */
  readonly self: string;
  readonly mesh: string;
  readonly privateKey: Ed25519PrivateKey;
  /** Whether the peer, which is linked, calls itself what its certificate does. */
  isCertified(record: MemberRecord): boolean;
  /** A member told something in another's name that this one never said, or something of itself that is not certified. */
  onForged(from: string, subject: string): void;
}

/**
 * Members sign what they say of themselves: that they are alive, stop, or leave for good, at which boot and incarnation, under
 * which name and addresses. So nobody can retire another, or give it other addresses. That somebody is *dead* is a view of
 * others and cannot be signed by it: it carries the last word of the dead, and is refuted by a later one.
 */
export class Announcements {
  readonly #init: AnnouncementsInit;
  readonly #signing: Signing;
  /** By peer: its last good announcement. */
  readonly #checked = new Map<string, Checked>();
  #own: (Checked & Pick<MemberRecord, "boot" | "inc">) | undefined;

  constructor(init: AnnouncementsInit) {
    this.#init = init;
    this.#signing = new Signing(init.privateKey);
  }

  /** Our own record, signed. */
  sealed(record: MemberRecord, status: ViewStatus): MemberRecord {
    const bytes = announcementBytes(this.#init.mesh, statusSaid(status), record);
    if (this.#own === undefined || !isSame(this.#own.bytes, bytes))
      this.#own = { bytes, signature: this.#signing.sign(bytes), boot: record.boot, inc: record.inc };
    return { ...record, signature: this.#own.signature };
  }

  /** A message as it leaves: what is in it about us is signed. */
  outgoing(message: MemberMessage): MemberMessage {
    if (message.type !== "views") return message;
    const { self } = this.#init;
    if (!message.views.some(({ peer }) => peer === self)) return message;
    const views = message.views.map((view) =>
      view.peer === self ? { ...view, ...this.sealed(view, view.status) } : view,
    );
    return { ...message, views };
  }

  /** A message that came, without what its subjects never said; `undefined` if nothing is left. */
  incoming(from: string, message: MemberMessage): MemberMessage | undefined {
    if (message.type === "suspect" && message.subject === this.#init.self && this.#isUnsaid(message)) {
      this.#init.onForged(from, message.subject);
      return undefined;
    }
    if (message.type !== "views") return message;
    const views = message.views.filter((view) => this.#isGenuine(from, view));
    return views.length === message.views.length ? message : { ...message, views };
  }

  /** Whether a member itself says so. */
  isSaid(record: MemberRecord, status: ViewStatus): boolean {
    return this.#isSaid(record, status, () => true) === true;
  }

  /** `undefined`: it was not checked. */
  #isSaid(record: MemberRecord, status: ViewStatus, mayCheck: () => boolean): boolean | undefined {
    const { peer, signature } = record;
    if (signature === undefined) return false;
    const bytes = announcementBytes(this.#init.mesh, statusSaid(status), record);
    const known = this.#checked.get(peer);
    if (known !== undefined && isSame(known.bytes, bytes) && isSame(known.signature, signature)) return true;
    if (!mayCheck()) return undefined;
    if (!this.#signing.verify(peer, bytes, signature)) return false;
    this.#checked.delete(peer);
    this.#checked.set(peer, { bytes, signature: Uint8Array.from(signature) });
    const [oldest] = this.#checked.keys();
    if (oldest !== undefined && this.#checked.size > CHECKED_MAX) this.#checked.delete(oldest);
    return true;
  }

  /** Whether it is a later standing of ours than this process ever announced. */
  #isUnsaid({ boot, inc }: Pick<MemberRecord, "boot" | "inc">): boolean {
    const own = this.#own;
    return own === undefined || boot > own.boot || (boot === own.boot && inc > own.inc);
  }

  #isGenuine(from: string, view: View): boolean {
    // Others may hold us for dead, which we answer; but a number above ours they can only have from us, before a disk forgot it.
    const isHonest = view.peer === this.#init.self && !this.#isUnsaid(view);
    if (isHonest) return true;
    const isSaid = this.#isSaid(view, view.status, () => this.#init.mayCheck(from));
    if (isSaid === undefined) return false; // It is told again, as long as tables differ.
    if (isSaid && this.#isAsCertified(from, view)) return true;
    this.#init.onForged(from, view.peer);
    return false;
  }

  /** As a hello has to be, lest it say another name afterwards. Of others a member tells what they were believed by those they are linked with. */
  #isAsCertified(from: string, view: View): boolean {
    return view.peer !== from || this.#init.isCertified(view);
  }
}

/** Nobody says of itself that it is dead: what is shown then is that it was alive. */
function statusSaid(status: ViewStatus): Exclude<ViewStatus, "dead"> {
  return status === "dead" ? "alive" : status;
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
