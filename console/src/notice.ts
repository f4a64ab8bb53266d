// One line that is said once: at the bottom of the page, and to screen readers.

import { signal } from "@preact/signals";

const SHOWN_MS = 6000;

export const notice = signal("");
let timer = 0;

export function say(text: string): void {
  notice.value = text;
  clearTimeout(timer);
  timer = setTimeout(() => (notice.value = ""), SHOWN_MS);
}
