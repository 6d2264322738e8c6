import { STANDING_MAX } from "../core/messages.ts";
import type { MemberRecord, View, ViewStatus } from "../core/messages.ts";
import { encodeFields } from "./fields.ts";
import type { Fields } from "./fields.ts";

/** Longest name, cloud or mesh name. */
export const NAME_LENGTH_MAX = 64;
export const TAGS_MAX = 32;
export const TAG_KEY_LENGTH_MAX = 64;
export const TAG_VALUE_LENGTH_MAX = 256;
export const ADDRESSES_MAX = 16;
export const ADDRESS_LENGTH_MAX = 256;

export const CLOUDS_MAX = 64;

const SIGNATURE_BYTES = 64;
/** Bits of what else a record says. */
const GATEWAY = 1;
const DIAL_ONLY = 2;
const REACH = 4;

/** What names may be made of: they end up in logs, URLs and file names. */
export const NAME_PATTERN: RegExp = /^[A-Za-z0-9._-]{1,64}$/u;
/** Base58 of an Ed25519 peer id: the only kind that is admitted. */
export const PEER_PATTERN: RegExp = /^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$/u;

const STATUSES: readonly ViewStatus[] = ["alive", "dead", "stopped", "left"];

export function recordFields(record: MemberRecord): unknown[] {
  const { peer, boot, inc, name, cloud, tags, addresses, gateway, dialOnly, reach } = record;
  const fields = [peer, boot, inc, name, cloud, Object.entries(tags), addresses];
  const flags = (gateway === true ? GATEWAY : 0) | (dialOnly === true ? DIAL_ONLY : 0) | (reach ? REACH : 0);
  if (record.signature !== undefined) return [...fields, flags, reach ?? [], record.signature];
  return flags === 0 ? fields : [...fields, flags, reach ?? []];
}

/** What a member signs when it says something of itself. */
export function announcementBytes(
  mesh: string,
  status: Exclude<ViewStatus, "dead">,
  record: MemberRecord,
): Uint8Array {
  const fields = recordFields({ ...record, signature: undefined });
  return encodeFields(["klatsch-announcement", 1, mesh, status, ...fields]);
}

export function readRecord(fields: Fields): MemberRecord {
  const peer = fields.matching(PEER_PATTERN);
  const boot = fields.count(STANDING_MAX);
  const inc = fields.count(STANDING_MAX);
  const name = fields.matching(NAME_PATTERN);
  const cloud = fields.matching(NAME_PATTERN);
  const tags = fields.list(TAGS_MAX, (tag): [string, string] => [
    tag.text(1, TAG_KEY_LENGTH_MAX),
    tag.text(0, TAG_VALUE_LENGTH_MAX),
  ]);
  const addresses = fields.texts(ADDRESSES_MAX, ADDRESS_LENGTH_MAX);
  // An address of another peer would make us dial that one in this one's name.
  if (!addresses.every((address) => address.startsWith("/") && address.endsWith(`/p2p/${peer}`)))
    fields.refuse();
  const record = { peer, boot, inc, name, cloud, tags: Object.freeze(Object.fromEntries(tags)), addresses };
  const flags = fields.optional(() => fields.count()) ?? 0;
  const reach = fields.optional(() => fields.texts(CLOUDS_MAX, NAME_LENGTH_MAX)) ?? [];
  const signature = fields.optional(() => fields.optionalBytes(SIGNATURE_BYTES));
  if (!reach.every((cloud) => NAME_PATTERN.test(cloud))) fields.refuse();
  return {
    ...record,
    ...((flags & GATEWAY) === 0 ? {} : { gateway: true }),
    ...((flags & DIAL_ONLY) === 0 ? {} : { dialOnly: true }),
    ...((flags & REACH) === 0 ? {} : { reach }),
    ...(signature === undefined ? {} : { signature: Uint8Array.from(signature) }),
  };
}

export function viewFields(view: View): unknown[] {
  const fields = [STATUSES.indexOf(view.status), view.ageMs, recordFields(view)];
  return view.vouched === true ? [...fields, 1] : fields;
}

export function readView(fields: Fields): View {
  const status = fields.oneOf(STATUSES);
  const ageMs = fields.count();
  const record = fields.nested(readRecord);
  const vouched = fields.optional(() => fields.count(1)) === 1;
  return vouched ? { ...record, status, ageMs, vouched } : { ...record, status, ageMs };
}
