/** Ends with `doing`, or after `timeoutMs`. */
export async function within(doing: Promise<unknown>, timeoutMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, timeoutMs);
  });
  await Promise.race([doing, late]);
  clearTimeout(timer);
}
