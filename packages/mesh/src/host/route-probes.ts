import type { Clock } from "@klatsch/kit";
import type { RelayBook } from "../core/routing/relay-book.ts";
import type { HopRefusalCode, Route, RouteProbe } from "../core/routing/types.ts";

/** Probes of others that this node passes on within a second. */
const PASSED_PER_SECOND_MAX = 200;
/** Own probes that may wait for an answer. */
const WAITING_MAX = 1_024;
const NONCES = 0x1_0000_0000;

export interface ProbeResult {
  readonly roundTripMs: number;
  /** The hop that answered: the last one if nobody refused. */
  readonly hop: number;
  readonly code: HopRefusalCode | undefined;
}

interface RouteProbesPorts {
  self(): string;
  book(): RelayBook;
  /** `false`: no direct link. */
  send(peer: string, probe: RouteProbe): boolean;
}

/** Probes along explicit routes: a frame on each link there and back, nothing kept by relays. */
export class RouteProbes {
  readonly #clock: Clock;
  readonly #ports: RouteProbesPorts;
  readonly #waiting = new Map<number, (answer: RouteProbe) => void>();
  #lastNonce = 0;
  #second = 0;
  #passed = 0;

  constructor(clock: Clock, ports: RouteProbesPorts) {
    this.#clock = clock;
    this.#ports = ports;
  }

  /** How long it takes to the end of the route and back; `undefined` if nothing came in time. */
  async measure(route: Route, limitMs: number): Promise<ProbeResult | undefined> {
    const next = route[1];
    if (next === undefined || this.#waiting.size >= WAITING_MAX) return undefined;
    this.#lastNonce = (this.#lastNonce + 1) % NONCES;
    const nonce = this.#lastNonce;
    const startedMs = this.#clock.now().monoMs;
    if (!this.#ports.send(next, { type: "probe", nonce, route, index: 1, back: false, code: undefined })) {
      return { roundTripMs: 0, hop: 0, code: "NOT_DIRECT" };
    }
    return new Promise((resolve) => {
      const finish = (result: ProbeResult | undefined): void => {
        clearTimeout(timer);
        this.#waiting.delete(nonce);
        resolve(result);
      };
      const timer = setTimeout(() => finish(undefined), limitMs);
      this.#waiting.set(nonce, ({ route: passed, code }) => {
        finish({ roundTripMs: this.#clock.now().monoMs - startedMs, hop: passed.length - 1, code });
      });
    });
  }

  /** A neighbour sent one. */
  receive(from: string, probe: RouteProbe): void {
    const { route, index, back } = probe;
    if (route[index] !== this.#ports.self()) return;
    if (back) this.#returned(from, probe);
    else if (this.#mayPass()) this.#arrived(from, probe);
  }

  #arrived(from: string, probe: RouteProbe): void {
    const { route, index } = probe;
    const verdict = this.#ports.book().examine({ route, index }, from);
    if (verdict.type === "carry") {
      this.#ports.send(verdict.next, { ...probe, index: index + 1 });
      return;
    }
    // Cut at who answers, so that the answer says who it is.
    const code = verdict.type === "refuse" ? verdict.code : undefined;
    const passed = route.slice(0, index + 1);
    this.#ports.send(from, { ...probe, route: passed, index: index - 1, back: true, code });
  }

  #returned(from: string, probe: RouteProbe): void {
    const { route, index, nonce } = probe;
    if (route[index + 1] !== from) return;
    const before = route[index - 1];
    if (before === undefined) this.#waiting.get(nonce)?.(probe);
    else if (this.#mayPass()) this.#ports.send(before, { ...probe, index: index - 1 });
  }

  #mayPass(): boolean {
    const second = Math.floor(this.#clock.now().monoMs / 1_000);
    if (second !== this.#second) {
      this.#second = second;
      this.#passed = 0;
    }
    this.#passed += 1;
    return this.#passed <= PASSED_PER_SECOND_MAX;
  }
}
