import { z } from "zod";
import { PEER_PATTERN } from "../codec/record-codec.ts";
import { CAPABILITY_PATTERN } from "../codec/statement-codec.ts";
import { ANY_CAPABILITY, CAPABILITIES_MAX, CERTIFICATE_LIFE_MS_MAX } from "../core/trust/statements.ts";
import { addressSchema, nameSchema, signalSchema, tagsSchema } from "../schemas.ts";

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

/** A node to adopt, and what it shall be. */
export interface AdoptInit extends CertificateDescription {
  /** Full address, `/p2p/…` included, as the node shows it. */
  readonly address: string;
  /** The code that the node shows. */
  readonly code: string;
  /** Passed on to the node as JSON: what it is to know, such as addresses to join by. At most 32 KiB. */
  readonly configuration?: unknown;
  readonly signal?: AbortSignal | undefined;
}

const fields = {
  name: nameSchema,
  cloud: nameSchema.default("default"),
  tags: tagsSchema.default({}),
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

export const certificateSchema: z.ZodType<CertificateOptions, CertificateInit> = z.strictObject({
  peer: z.string().regex(PEER_PATTERN, "must be the peer id of an Ed25519 key: 12D3KooW…"),
  ...fields,
});

export const adoptSchema: z.ZodType<AdoptInit> = z.strictObject({
  address: addressSchema,
  code: z.string(),
  configuration: z.unknown().optional(),
  signal: signalSchema.optional(),
  ...fields,
});
