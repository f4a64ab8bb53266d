// A name that somebody chose. Nothing in it is hidden, and it does not turn the text around it.

import { visible } from "../shown.ts";

export function Name({ of }: { of: string }) {
  return <bdi class="name">{visible(of)}</bdi>;
}
