import { cutNotices, decodeAdmissionMessage, encodeAdmissionMessage } from "../codec/admission-codec.ts";
import type { Notices } from "../codec/admission-codec.ts";
import type { EndorsedText } from "../codec/credentials-codec.ts";
import type { Endorsed, Revocation, Rotation, Signed } from "../core/trust/statements.ts";

/** As they travel. */
export function noticesOf(
  rotations: readonly Signed<Rotation>[],
  revocations: readonly Endorsed<Revocation>[],
): Notices {
  return {
    rotations: rotations.map(({ envelope }) => envelope),
    revocations: revocations.map(endorsedText),
  };
}

export function endorsedText({ statement, delegation }: Endorsed<unknown>): EndorsedText {
  return { statement: statement.envelope, delegation: delegation?.envelope ?? "" };
}

/** Revocations and rotations as people and files carry them: the messages that members send, a line each. */
export function noticesText(
  rotations: readonly Signed<Rotation>[],
  revocations: readonly Endorsed<Revocation>[],
): string {
  return cutNotices(noticesOf(rotations, revocations))
    .map((notices) => Buffer.from(encodeAdmissionMessage({ type: "notices", notices })).toString("base64url"))
    .join("\n");
}

/** `undefined`: the text is none. */
export function parseNoticesText(text: string): Notices | undefined {
  if (typeof text !== "string") return undefined; // Plain JavaScript may pass anything.
  const rotations: string[] = [];
  const revocations: EndorsedText[] = [];
  for (const line of text.trim().split(/\s+/u)) {
    const message = decodeAdmissionMessage(Buffer.from(line, "base64url"));
    if (message?.type !== "notices") return undefined;
    rotations.push(...message.notices.rotations);
    revocations.push(...message.notices.revocations);
  }
  return { rotations, revocations };
}
