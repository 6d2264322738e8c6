/** Who has asked whether a member is gone, until the core answers. */
export class GoneQuestions {
  readonly #asked = new Map<number, (gone: boolean) => void>();
  #lastId = 0;

  /** `put` hands the question over under this id. */
  ask(put: (id: number) => void): Promise<boolean> {
    const id = (this.#lastId += 1);
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#asked.set(id, resolve);
    put(id);
    return promise;
  }

  answer(id: number, gone: boolean): void {
    this.#asked.get(id)?.(gone);
    this.#asked.delete(id);
  }

  /** Who is still asking learns nothing: it is here that the mesh has gone. */
  end(): void {
    for (const id of [...this.#asked.keys()]) this.answer(id, false);
  }
}
