// The uploads of this page: some go at once, the others wait. It lives as long as the page, whichever part is shown.

import { signal } from "@preact/signals";
import type { Dropped } from "./dropped.ts";
import { Form } from "./form.ts";
import { forgetUnfinished, Resumable, unfinished } from "./resumable.ts";
import type { Upload, Wishes } from "./upload.ts";

/** A browser opens six connections to a host, and lists want some of them. */
const SENDING_MAX = 3;

export const uploads = signal<Upload[]>([]);
/** Counts what was stored, so that lists know that they are old. */
export const storedCount = signal(0);

/** Files and folders that waited for their turn, or could not go on, when the page was left; it has them no more. */
export const notSent = signal(0);
const NOT_SENT = "evernear-not-sent";

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

/** Lists what was begun before the page was loaded, and how much was not begun. */
export async function recall(): Promise<void> {
  notSent.value = Number(sessionStorage.getItem(NOT_SENT) ?? 0) || 0;
  sessionStorage.removeItem(NOT_SENT);
  const known = (await unfinished()).map((previous) => new Resumable(null, previous, null, changed));
  uploads.value = [...known, ...uploads.value];
  await Promise.all(known.map((it) => it.look()));
}

/** Ends what somebody else began here, and has the browser forget it. */
export async function forget(): Promise<void> {
  const theirs = uploads.value;
  [uploads.value, notSent.value] = [[], 0];
  sessionStorage.removeItem(NOT_SENT);
  for (const upload of theirs) upload.pause();
  await forgetUnfinished();
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
  for (const upload of uploads.value) {
    if (upload.state.value !== "queued") continue;
    // Counted anew each time: what begins calls this too.
    if (uploads.value.filter(isActive).length >= SENDING_MAX) break;
    upload.begin();
  }
}

/** What is lost with the page: it was not begun, or cannot go on. */
const isLost = (upload: Upload) =>
  upload.state.value === "queued" || (!upload.isResumable && !["done", "failed"].includes(upload.state.value));

// Whoever leaves the page cuts what is under way: browsers ask first. What was lost all the same is told to who comes back.
addEventListener("beforeunload", (event) => {
  if (uploads.value.some(isLost)) event.preventDefault();
});
addEventListener("pagehide", () => {
  const lost = uploads.value.filter(isLost).length;
  if (lost > 0) sessionStorage.setItem(NOT_SENT, String(lost));
});
