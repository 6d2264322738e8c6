import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { generateKeyPair, privateKeyToProtobuf } from "@libp2p/crypto/keys";
import type { Ed25519PrivateKey } from "@libp2p/interface";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { createMeshRoot } from "@klatsch/mesh";
import type { CertificateInit, Mesh, MeshAuthority, MeshInit } from "@klatsch/mesh";
import type { TestClock } from "../admission/keys.ts";
import { Bed } from "./helpers.ts";

/** Meshes with roots, and nodes whose keys are made before they run. */
export class CertifiedBed extends Bed {
  readonly #authorities = new Map<string, MeshAuthority>();
  readonly #keys = new Map<string, Ed25519PrivateKey>();

  async authority(name = "root", clock?: TestClock): Promise<MeshAuthority> {
    const known = this.#authorities.get(name);
    if (known !== undefined) return known;
    const made = await createMeshRoot({ directory: join(this.directory, `authority-${name}`), clock });
    this.#authorities.set(name, made);
    return made;
  }

  /** The node's key; made at first. */
  async key(name: string): Promise<Ed25519PrivateKey> {
    const known = this.#keys.get(name);
    if (known !== undefined) return known;
    const key = await generateKeyPair("Ed25519");
    mkdirSync(this.dataDir(name), { recursive: true });
    writeFileSync(join(this.dataDir(name), "identity.key"), privateKeyToProtobuf(key));
    this.#keys.set(name, key);
    return key;
  }

  async peer(name: string): Promise<string> {
    return peerIdFromPrivateKey(await this.key(name)).toString();
  }

  async certificate(
    name: string,
    certificate: Partial<CertificateInit> = {},
    authority?: MeshAuthority,
  ): Promise<string> {
    const issuer = authority ?? (await this.authority());
    return issuer.issueCertificate({ peer: await this.peer(name), name, ...certificate });
  }

  /** Starts a node with a certificate. */
  async certified(
    name: string,
    init: Partial<MeshInit> = {},
    certificate: Partial<CertificateInit> = {},
  ): Promise<Mesh> {
    const text = await this.certificate(name, certificate);
    return await this.mesh(name, { name: undefined, admission: { certificate: text }, ...init });
  }
}
