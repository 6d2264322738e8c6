import { z } from "zod";
import {
  NAME_PATTERN,
  PEER_PATTERN,
  TAG_KEY_LENGTH_MAX,
  TAG_VALUE_LENGTH_MAX,
  TAGS_MAX,
} from "../codec/record-codec.ts";
import { CAPABILITY_PATTERN } from "../codec/statement-codec.ts";
import { ANY_CAPABILITY, CAPABILITIES_MAX, CERTIFICATE_LIFE_MS_MAX } from "../core/trust/statements.ts";
import { invalidOptions } from "../errors.ts";

const MINUTE_MS = 60_000;

/** What a certificate says of a node, and what the node may do. */
export interface CertificateDescription {
  /** 1 to 64 characters of `A-Z a-z 0-9 . _ -`. */
  readonly name: string;
  /** Default `default`. */
  readonly cloud?: string | undefined;
  readonly tags?: Readonly<Record<string, string>> | undefined;
  /** What other packages ask for before they do as this node says; `*` is all but `ca`. Default `["*"]`. */
  readonly capabilities?: readonly string[] | undefined;
  /** How long it is valid, in milliseconds. Default 90 days, at most 400. */
  readonly lifeMs?: number | undefined;
}

/** A certificate to be issued. */
export interface CertificateInit extends CertificateDescription {
  /** Peer id of the node: `12D3KooW…`. */
  readonly peer: string;
}

const name = z.string().regex(NAME_PATTERN, "must be 1 to 64 characters of A-Z a-z 0-9 . _ -");

const fields = {
  name,
  cloud: name.default("default"),
  tags: z
    .record(z.string().min(1).max(TAG_KEY_LENGTH_MAX), z.string().max(TAG_VALUE_LENGTH_MAX))
    .refine((tags) => Object.keys(tags).length <= TAGS_MAX, `has more than ${TAGS_MAX} entries`)
    .default({}),
  capabilities: z
    .array(z.string().regex(CAPABILITY_PATTERN, "must be * or a-z 0-9 : . _ -"))
    .max(CAPABILITIES_MAX)
    .default([ANY_CAPABILITY]),
  lifeMs: z.number().int().min(MINUTE_MS).max(CERTIFICATE_LIFE_MS_MAX).optional(),
};

/** With all but `lifeMs` filled in. */
interface CertificateOptions {
  readonly peer: string;
  readonly name: string;
  readonly cloud: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly capabilities: readonly string[];
  readonly lifeMs?: number | undefined;
}

export const descriptionSchema: z.ZodType<
  Omit<CertificateOptions, "peer">,
  CertificateDescription
> = z.strictObject(fields);

export const certificateSchema: z.ZodType<CertificateOptions, CertificateInit> = z.strictObject({
  peer: z.string().regex(PEER_PATTERN, "must be the peer id of an Ed25519 key: 12D3KooW…"),
  ...fields,
});

/** @throws MeshError `INVALID_OPTIONS` naming the field. */
export function parseWith<Value>(schema: z.ZodType<Value>, value: unknown): Value {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw invalidOptions(parsed.error);
}
