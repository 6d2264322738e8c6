#!/usr/bin/env -S node --conditions=klatsch-source --disable-warning=ExperimentalWarning
/** Where the `klatsch` command begins. */
import { enableCompileCache } from "node:module";

// Before anything else is loaded: what follows is compiled once for all starts, a third of the time of a command.
enableCompileCache();
const { main } = await import("./program.ts");
await main();
