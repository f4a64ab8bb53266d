// What was erased just now: the page asks an edge until it says so too.

import { useEffect, useState } from "preact/hooks";
import type { StoredFile } from "../file.ts";
import { Page } from "../parts/page.tsx";
import { link } from "../route.ts";

const EVERY_MS = 1000;
const TRIES_MAX = 60;
const GONE = 410;

export function Gone({ file }: { file: StoredFile }) {
  const status = useStatus(file.url);
  return (
    <Page title={file.name} line={<a href={link("files")}>All files</a>}>
      <section class="card" aria-live="polite">
        <h2>Erased</h2>
        <p>
          Its key is destroyed on the nodes. Nobody can read it any more, and its link leads to no other file, ever.
        </p>
        <p class={status === GONE ? "good" : "dim"}>{words(status)}</p>
        <p class="copy">
          <code>{file.url}</code>
        </p>
      </section>
    </Page>
  );
}

function words(status: number | null | undefined): string {
  if (status === GONE) return "The edge answers 410 Gone.";
  if (status === null)
    return "Edges forget it within seconds. This page cannot ask the edge itself: open the link to see.";
  if (status === undefined) return "Asking the edge…";
  return `The edge still answers ${status}; it forgets within seconds. Asking again…`;
}

/** Returns the status that an edge answers, asked until it is 410; undefined at first, null where nobody can ask. */
function useStatus(url: string): number | null | undefined {
  const [status, setStatus] = useState<number | null | undefined>(undefined);
  useEffect(() => {
    let [timer, tries] = [0, 0];
    const ask = async () => {
      const found = await fetch(url, {
        method: "HEAD",
        cache: "no-store",
        credentials: "omit",
        referrerPolicy: "no-referrer",
        signal: AbortSignal.timeout(10_000),
      }).then(
        (it) => it.status,
        () => null,
      );
      tries += 1;
      setStatus(found);
      if (found !== GONE && tries < TRIES_MAX) timer = setTimeout(() => void ask(), EVERY_MS);
    };
    void ask();
    return () => clearTimeout(timer);
  }, [url]);
  return status;
}
