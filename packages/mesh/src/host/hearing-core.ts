import type { Core, Instant } from "@klatsch/kit";
import type { Membership } from "../core/membership.ts";
import type { MembershipEffect, MembershipInput } from "../core/membership-types.ts";
import type { Links } from "./links.ts";

/** How often what channels heard is passed on to membership, in milliseconds. */
const HEARD_MS = 50;

/** Feeds membership what only the streams know: when bytes of any kind last came from whom. */
export class HearingCore implements Core<MembershipInput, MembershipEffect> {
  readonly #membership: Membership;
  readonly #links: Links;
  #heardAtMs = 0;

  constructor(membership: Membership, links: Links) {
    this.#membership = membership;
    this.#links = links;
  }

  step(input: MembershipInput, now: Instant): readonly MembershipEffect[] {
    return this.#membership.step(input, now);
  }

  flush(now: Instant): readonly MembershipEffect[] {
    if (now.monoMs - this.#heardAtMs < HEARD_MS) return this.#membership.flush(now);
    this.#heardAtMs = now.monoMs;
    const heard = this.#membership.step({ type: "heard", heard: this.#links.heard() }, now);
    return [...heard, ...this.#membership.flush(now)];
  }

  nextDeadline(): number {
    return this.#membership.nextDeadline();
  }
}
