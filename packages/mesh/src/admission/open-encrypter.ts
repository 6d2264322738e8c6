import { systemClock } from "@klatsch/kit";
import type { EncrypterFactory } from "./encrypter.ts";
import { admissionEncrypters } from "./encrypter.ts";
import type { AdmissionPorts } from "./control.ts";
import { OpenAdmission } from "./open.ts";

/** There is no mesh yet to tell. */
const NOBODY: AdmissionPorts = {
  wallMs: () => systemClock.now().wallMs,
  monoMs: () => systemClock.now().monoMs,
  linked: () => [],
  send: () => undefined,
  disconnect: () => undefined,
  refused: () => undefined,
  revoked: () => undefined,
  onForged: () => undefined,
  expiring: () => undefined,
  renewed: () => undefined,
  failed: () => undefined,
};

/**
 * For `connectionEncrypters` of a libp2p node that an open mesh is to work in, before `noise()`: nodes that the mesh
 * made itself speak nothing else.
 */
export function openMeshEncrypter(mesh = "default"): EncrypterFactory {
  const [encrypter] = admissionEncrypters(new OpenAdmission(mesh, NOBODY));
  if (encrypter === undefined) throw new TypeError("no encrypter");
  return encrypter;
}
