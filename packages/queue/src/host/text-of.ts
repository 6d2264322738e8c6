/** Anything can be thrown, even what has no text. */
export function textOf(error: unknown): string {
  try {
    return String(error);
  } catch {
    return "something without a text was thrown";
  }
}
