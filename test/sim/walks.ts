import type { ManageResult } from "../../packages/queue/src/core/manage.ts";
import { messageId } from "../../packages/queue/src/core/message-id.ts";
import type { Place } from "../../packages/queue/src/core/types.ts";
import { Page } from "../../packages/queue/src/core/listed-page.ts";
import type { SimNode } from "./node.ts";
import type { World } from "./world.ts";

/** Somebody who lists the queue page by page, at one node. */
interface Walk {
  readonly node: SimNode;
  readonly boot: number;
  /** What was there since it began, and kept by the node's own store. */
  there: ReadonlySet<string>;
  readonly seen: Set<string>;
}

/**
 * Lists of the whole queue, in pages. What is there from the first to the last is in one of them, once: unless a page says that
 * somebody did not answer, or that nobody served a lane.
 */
export class Walks {
  readonly #world: World;
  readonly #ask: (node: SimNode, waitMs: number) => number;
  readonly #open = new Map<number, { readonly walk: Walk; readonly page: Page }>();

  constructor(world: World, ask: (node: SimNode, waitMs: number) => number) {
    this.#world = world;
    this.#ask = ask;
  }

  begin(node: SimNode): void {
    if (node.state !== "up") return;
    this.#next({ node, boot: node.boot, there: this.#there(node), seen: new Set() }, undefined);
  }

  /** Acknowledged, kept by this node, and as good as done for no writer. */
  #there({ core }: SimNode): ReadonlySet<string> {
    const { checker } = this.#world;
    const kept = [...(core?.acceptor.lanes() ?? [])].filter(({ closed }) => !closed);
    return new Set(
      checker.acknowledged().flatMap(({ lane, seq }) => {
        const truth = checker.truth.message(lane, seq);
        const isLeaving = truth?.proposals.some(({ value }) => value.state === "DONE") ?? true;
        const isKept = kept.some(
          (one) => (one.descriptor.heirOf?.root ?? one.lane) === lane && one.registers.get(seq) !== undefined,
        );
        return isKept && !isLeaving && !this.#isEnding({ lane, seq }) ? [messageId(lane, seq)] : [];
      }),
    );
  }

  /** Some writer has accepted its end, which is on no wire yet. */
  #isEnding({ lane, seq }: Place): boolean {
    const writers = this.#world.nodes.flatMap(({ core }) => [...(core?.lanes.all() ?? [])]);
    return writers.some(
      ({ root, registers }) => root === lane && registers.peek(seq)?.value.state === "DONE",
    );
  }

  #next(walk: Walk, after: Place | undefined): void {
    const { dice, queue } = this.#world;
    const page = new Page(dice.whole(1, 8), after);
    const waitMs = dice.real(50, 2_000);
    const requestId = this.#ask(walk.node, waitMs);
    this.#open.set(requestId, { walk, page });
    const scope = { act: "list", scope: "any", only: undefined, from: undefined } as const;
    const deadlineMs = walk.node.now().monoMs + waitMs;
    walk.node.enter({ type: "manage", requestId, queue, ...scope, ...page.wanted, deadlineMs });
  }

  onManaged(requestId: number, result: ManageResult): void {
    const { walk, page } = this.#open.get(requestId) ?? {};
    this.#open.delete(requestId);
    if (walk === undefined || page === undefined) return;
    page.add(result);
    const { node, boot, seen } = walk;
    const still = this.#there(node);
    walk.there = new Set([...walk.there].filter((id) => still.has(id)));
    if (node.state !== "up" || node.boot !== boot || page.missing.length > 0 || page.unserved > 0) return;
    for (const { lane, seq } of page.items) {
      const id = messageId(lane, seq);
      if (seen.has(id)) this.#world.violate("LISTED_ONCE", `${id} is on two pages`);
      seen.add(id);
    }
    const after = page.next;
    if (after === undefined) return this.#end(walk);
    this.#world.events.in(this.#world.dice.real(0, 100), () => {
      if (node.state === "up" && node.boot === boot) this.#next(walk, after);
    });
  }

  #end({ there, seen }: Walk): void {
    this.#world.stats.walks += 1;
    const unseen = [...there].find((id) => !seen.has(id));
    if (unseen === undefined) return;
    this.#world.violate("LISTED", `${unseen} was there all the while, and on no page`);
  }
}
