/** What needs a descriptor looks for one so many times … */
export const LOOKS_MAX = 300;
/** … and so long after each other, in milliseconds: nothing is lost while nothing is written, and others give theirs back. */
export const LOOK_MS = 100;

/** What `attempt` comes to, which changes nothing where it finds no descriptor left: then it is made again. */
export async function withDescriptor<Value>(attempt: () => Promise<Value>): Promise<Value> {
  for (let looks = 1; ; looks += 1) {
    try {
      return await attempt();
    } catch (error) {
      if (!lacksDescriptor(error) || looks >= LOOKS_MAX) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** Of this process, or of the whole machine. */
function lacksDescriptor(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === "EMFILE" || code === "ENFILE";
}
