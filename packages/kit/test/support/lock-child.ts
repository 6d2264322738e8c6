/** Locks a directory, says so, and waits; ended by SIGKILL. */
import { lockDirectory } from "@klatsch/kit/store";

await lockDirectory(process.argv[2] ?? "");
process.send?.("locked");
process.on("message", () => undefined); // Keeps it running.
