import { NotFoundError } from "@libp2p/interface";
import type { Peer, PeerId, PeerInfo, PeerStore } from "@libp2p/interface";

/**
 * A peer store that remembers nobody. libp2p notes every address that was ever dialled and every protocol that was
 * ever spoken, for ever, and each new stream waits for that; whom we know, and where, is membership's business.
 */
export class ForgetfulPeers implements PeerStore {
  forEach(): Promise<void> {
    return Promise.resolve();
  }

  all(): Promise<Peer[]> {
    return Promise.resolve([]);
  }

  delete(): Promise<void> {
    return Promise.resolve();
  }

  has(): Promise<boolean> {
    return Promise.resolve(false);
  }

  get(id: PeerId): Promise<Peer> {
    return Promise.reject(new NotFoundError(`${id.toString()} is not kept`));
  }

  getInfo(id: PeerId): Promise<PeerInfo> {
    return Promise.reject(new NotFoundError(`${id.toString()} is not kept`));
  }

  save(id: PeerId): Promise<Peer> {
    return Promise.resolve(nothingOf(id));
  }

  patch(id: PeerId): Promise<Peer> {
    return Promise.resolve(nothingOf(id));
  }

  merge(id: PeerId): Promise<Peer> {
    return Promise.resolve(nothingOf(id));
  }

  consumePeerRecord(): Promise<boolean> {
    return Promise.resolve(false);
  }
}

function nothingOf(id: PeerId): Peer {
  return { id, addresses: [], protocols: [], metadata: new Map(), tags: new Map() };
}
