/** Commits as fast as it can and prints each acknowledged number; ended by SIGKILL. */
import { openJournalStore } from "../../src/store/open.ts";
import { childOperations, CHILD_LIMITS } from "./child-operations.ts";

const [directory = ""] = process.argv.slice(2);
const store = await openJournalStore(directory, { limits: CHILD_LIMITS });
const first = store.batchNo;
process.stdout.write(`open ${store.boot} ${first}\n`);

for (let round = 0; ; round += 1) {
  // Four at a time, so that commits are merged and slices run beside them.
  const numbers = [0, 1, 2, 3].map((lane) => store.commit(childOperations(store.boot, round, lane)));
  await Promise.all(numbers);
  process.stdout.write(`ack ${round}\n`);
}
