// The uploads of this page: some go at once, the others wait. It lives as long as the page, whichever part is shown.

import { signal } from "@preact/signals";
import type { Dropped } from "./dropped.ts";
import { Form } from "./form.ts";
import { Resumable, unfinished } from "./resumable.ts";
import type { Upload, Wishes } from "./upload.ts";

/** A browser opens six connections to a host, and lists want some of them. */
const SENDING_MAX = 3;

export const uploads = signal<Upload[]>([]);
/** Counts what was stored, so that lists know that they are old. */
export const storedCount = signal(0);

const isActive = (upload: Upload) => upload.state.value === "sending" || upload.state.value === "storing";

/** Takes what was dropped. A file that was begun before goes on, unless something is wished for it now. */
export async function add({ files, folders }: Dropped, wishes: Wishes): Promise<void> {
  const isPlain = Object.values(wishes).every((it) => it.trim() === "");
  const begun = isPlain ? uploads.value.filter((it) => it instanceof Resumable) : [];
  const fresh: Upload[] = [];
  for (const file of files) {
    const taken = await first(begun, (it) => it.take(file));
    if (!taken) fresh.push(new Resumable(file, null, wishes, changed));
  }
  for (const folder of folders) fresh.push(new Form(folder, wishes, changed));
  uploads.value = [...uploads.value, ...fresh];
  changed();
}

async function first(all: Resumable[], takes: (it: Resumable) => Promise<boolean>): Promise<boolean> {
  for (const it of all) if (await takes(it)) return true;
  return false;
}

/** Lists what was begun before the page was loaded. */
export async function recall(): Promise<void> {
  const known = (await unfinished()).map((previous) => new Resumable(null, previous, null, changed));
  uploads.value = [...known, ...uploads.value];
  await Promise.all(known.map((it) => it.look()));
}

export async function cancel(upload: Upload): Promise<void> {
  remove(upload);
  await upload.cancel();
}

export function remove(upload: Upload): void {
  uploads.value = uploads.value.filter((it) => it !== upload);
}

/** Takes what is done off the list. */
export function clear(): void {
  uploads.value = uploads.value.filter((it) => it.state.value !== "done");
}

/** Lists are loaded again at most so often while files are stored. */
const TELL_MS = 500;
let [doneCount, telling] = [0, false];

/** Begins what has a turn; called whenever an upload's state changes. */
function changed(): void {
  const done = uploads.value.filter((it) => it.state.value === "done").length;
  if (done > doneCount && !telling) {
    telling = true;
    setTimeout(() => ((telling = false), (storedCount.value += 1)), TELL_MS);
  }
  doneCount = done;
  let room = SENDING_MAX - uploads.value.filter(isActive).length;
  for (const upload of uploads.value) {
    if (room <= 0) break;
    if (upload.state.value !== "queued") continue;
    room -= 1;
    upload.begin();
  }
}

// Whoever leaves the page cuts what is under way: browsers ask first.
addEventListener("beforeunload", (event) => {
  if (uploads.value.some((it) => isActive(it) && !it.isResumable)) event.preventDefault();
});
