import type { MeshEvents } from "../types.ts";

/** Their names, which types alone do not tell at run time. */
export const MESH_EVENTS: Readonly<Record<keyof MeshEvents, true>> = {
  "member:joined": true,
  "member:updated": true,
  "member:suspected": true,
  "member:refuted": true,
  "member:died": true,
  "member:stopped": true,
  "member:left": true,
  "member:forgotten": true,
  "link:up": true,
  "link:down": true,
  "link:refused": true,
  "member:revoked": true,
  "certificate:expiring": true,
  "certificate:renewed": true,
  "tunnel:up": true,
  "tunnel:down": true,
  "self:declaredDead": true,
  "self:isolated": true,
  "state:quarantined": true,
  "mesh:failed": true,
};
