/** The nodes' side of the harness: a process that answers the calls of the one that forked it. */

export interface Call {
  readonly id: number;
  readonly command: string;
  readonly argument: unknown;
}

export interface Answer {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: string;
}

/** Answers calls until the parent hangs up, then ends this process. */
export function serve(commands: Readonly<Record<string, (argument: never) => Promise<unknown>>>): void {
  process.on("message", (message) => {
    const { id, command, argument } = message as Call;
    const answer = async (): Promise<unknown> => {
      const run = commands[command];
      if (run === undefined) throw new Error(`no command ${command}`);
      return await run(argument as never);
    };
    answer().then(
      (result) => process.send?.({ id, result } satisfies Answer),
      (error: unknown) => {
        const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
        process.send?.({ id, error: text } satisfies Answer);
      },
    );
  });
  process.on("disconnect", () => process.exit(0));
  // Ctrl-C reaches the whole group; the parent hangs up.
  process.on("SIGINT", () => undefined);
}

/** Milliseconds of the monotonic clock that all processes of a machine share: stamps of two may be subtracted. */
export function sharedMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
