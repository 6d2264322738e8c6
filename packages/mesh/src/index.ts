export { createMeshRoot, openAuthority } from "./admission/authority.ts";
export type { AuthorityInit, MeshAuthority } from "./admission/authority.ts";
export type { AdoptInit, CertificateDescription, CertificateInit } from "./admission/certificate-options.ts";
export type { MemberCertificate, MeshAdmission } from "./admission/control.ts";
export { readCertificate, readPeerId } from "./admission/certificate-text.ts";
export type { CertificateDetails } from "./admission/certificate-text.ts";
export { readAdoption, startEnrolment } from "./admission/enrol.ts";
export type { Adoption, Enrolment, EnrolmentInit } from "./admission/enrol.ts";
export type { AdmissionRefusal } from "./core/trust/statements.ts";
export { MeshError } from "./errors.ts";
export type { MeshErrorCode } from "./errors.ts";
export { meshGate } from "./admission/gate.ts";
export type { MeshGate } from "./admission/gate.ts";
export type { EncrypterFactory } from "./admission/encrypter.ts";
export { openMeshEncrypter } from "./admission/open-encrypter.ts";
export { FRAME_COPIED_BYTES_MAX } from "./host/frame-stream.ts";
export { createMesh } from "./mesh.ts";
export type {
  KeyFilter,
  MeshState,
  SharedChange,
  SharedEntry,
  SharedState,
  StateChange,
  StateEntry,
  StateFilter,
  StateValue,
} from "./state-types.ts";
export type {
  CertificateAdmissionInit,
  Channel,
  ChannelClass,
  ChannelHandlers,
  ChannelOptions,
  ClassLimits,
  Conduit,
  JoinAny,
  ConnectOptions,
  LinkPeer,
  LinkRefusal,
  Member,
  MemberEvidence,
  MemberStatus,
  Mesh,
  MeshEvents,
  MeshInit,
  MeshStats,
  MeshTopics,
  TopicListener,
  TopicMessage,
  TopicPublishOptions,
  TopicTarget,
  RouteTrace,
  WaitForOptions,
} from "./types.ts";
