/** How things look to people. */
import type { Member } from "@klatsch/mesh";
import type { MemberChange, Trace } from "./protocol.ts";

/** Rows below their headings, in columns; the last one is not padded. */
export function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [headings, ...rows].map((row) => row.map(printable));
  const widths = headings.map((_, column) => Math.max(...lines.map((row) => columnsOf(row[column] ?? ""))));
  return lines
    .map((row) =>
      row
        .map((cell, column) => cell + " ".repeat((widths[column] ?? 0) - columnsOf(cell)))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

const graphemes = new Intl.Segmenter();
const WIDE =
  /^[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Emoji_Presentation}\u3000-\u303e\uff01-\uff60\uffe0-\uffe6]|\ufe0f/u;

/** Columns that a text takes in a terminal. */
function columnsOf(text: string): number {
  if (/^[ -~]*$/u.test(text)) return text.length;
  return [...graphemes.segment(text)].reduce((sum, { segment }) => sum + (WIDE.test(segment) ? 2 : 1), 0);
}

/** Other nodes chose these texts: a terminal must not take them for orders, nor turn around what stands beside them. */
export function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}]/gu, "?");
}

export function membersTable(members: readonly Member[]): string {
  return table(
    ["NAME", "STATUS", "EVIDENCE", "CLOUD", "BOOT", "INCARNATION", "LINKED", "ADDRESS"],
    members
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
      .map((member) => [
        member.name,
        member.status,
        member.evidence,
        member.cloud,
        String(member.boot),
        String(member.incarnation),
        linkOf(member),
        member.addresses[0] ?? "-",
      ]),
  );
}

function linkOf({ self, linked }: Member): string {
  if (self) return "self";
  return linked ? "yes" : "no";
}

/** A row for each hop of each class. */
export function tracesTable(traces: readonly Trace[]): string {
  const rows = traces.flatMap(({ class: name, hops, code }) => {
    const passed = hops.map((hop, index) => [name, String(index + 1), hop.name, millis(hop.roundTripMs)]);
    return code === undefined ? passed : [...passed, [name, "-", code, "-"]];
  });
  return table(["CLASS", "HOP", "MEMBER", "ROUND TRIP"], rows);
}

function millis(durationMs: number | undefined): string {
  return durationMs === undefined ? "-" : `${durationMs.toFixed(2)} ms`;
}

/** One line: when, who, what, and why that is believed. */
export function changeLine({ change, member }: MemberChange): string {
  const time = new Date().toTimeString().slice(0, 8);
  return printable(`${time} ${member.name} ${change} (${member.evidence}, boot ${member.boot})`);
}

/** `{ mesh: { links: 2 } }` as rows `mesh.links`, `2`. */
export function valueRows(value: object, prefix = ""): string[][] {
  return Object.entries(value).flatMap(([name, each]: [string, unknown]) =>
    typeof each === "object" && each !== null
      ? valueRows(each, `${prefix}${name}.`)
      : [[`${prefix}${name}`, String(each)]],
  );
}
