import type { BodyBudget } from "./context.ts";
import type { Register } from "./lane-register.ts";

/**
 * What may wait for long. The bytes of its value are made anew for a replica that is behind; a body on this node's disk stays in memory
 * only for a delivery to come: reading it back costs more.
 */
export function trim(register: Register, selfBit: number, bodies: BodyBudget): void {
  const { body, value } = register;
  if (register.chosen) value.encoded = undefined;
  if (body === undefined || (register.heldBy & selfBit) === 0) return;
  const waits = value.state === "READY" || (value.state === "LEASED" && !register.chosen);
  if (waits && (register.kept || bodies.take(body))) register.kept = true;
  else dropBody(register, bodies);
}

export function dropBody(register: Register, bodies: BodyBudget): void {
  if (register.kept && register.body !== undefined) bodies.give(register.body);
  register.kept = false;
  register.body = undefined;
}
