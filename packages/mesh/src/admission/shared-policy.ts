import type { SharedPolicy } from "../host/state-host.ts";

/** The capability to overrule newer entries: an admin's, for when a clock has gone wrong. */
const OVERRIDE_CAPABILITY = "state:admin";

/** Judges the credentials that came with an entry as of its time. */
type Judge = (
  credential: Uint8Array,
  writer: string,
  atWallMs: number,
) => ((capability: string) => boolean) | undefined;

/** Open admission: every member has every capability, but keys that nobody planned for are refused (S6). */
export function openPolicy(prefixes: Readonly<Record<string, string>> | undefined): SharedPolicy {
  return {
    mayWrite: ({ key }) => neededFor(key, prefixes) !== undefined,
    credential: () => undefined,
  };
}

/** Each entry comes with the writer's credentials, so whoever was not there then can judge it too. */
export function certifiedPolicy(
  prefixes: Readonly<Record<string, string>> | undefined,
  ports: { readonly credential: () => Uint8Array; readonly judge: Judge },
): SharedPolicy {
  return {
    mayWrite: ({ key, override, writer, credential, atMs }) => {
      const needed = neededFor(key, prefixes);
      if (needed === undefined || credential === undefined) return false;
      const can = ports.judge(credential, writer, atMs);
      if (can === undefined || (override && !can(OVERRIDE_CAPABILITY))) return false;
      return needed === "" || can(needed);
    },
    credential: () => ports.credential(),
  };
}

/** The capability that the longest fitting prefix asks for: empty for none, `undefined` where no prefix fits. */
function neededFor(key: string, prefixes: Readonly<Record<string, string>> | undefined): string | undefined {
  if (prefixes === undefined) return "";
  let longest: string | undefined;
  for (const prefix of Object.keys(prefixes)) {
    if (key.startsWith(prefix) && prefix.length >= (longest?.length ?? 0)) longest = prefix;
  }
  return longest === undefined ? undefined : prefixes[longest];
}
