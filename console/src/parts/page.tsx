// The head of each page: its title, one line about it, and what can be done with all of it.

import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { visible } from "../shown.ts";

export function Page({
  title,
  line,
  actions,
  children,
}: {
  title: string;
  line?: ComponentChildren;
  actions?: ComponentChildren;
  children: ComponentChildren;
}) {
  const head = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${visible(title)} – Evernear`;
  }, [title]);
  // Screen readers and the keyboard begin at the head of a page that was just opened.
  useEffect(() => head.current?.focus({ preventScroll: true }), []);
  return (
    <>
      <header class="head">
        <div>
          <h1 ref={head} tabIndex={-1}>
            <bdi>{visible(title)}</bdi>
          </h1>
          {line && <p class="dim">{line}</p>}
        </div>
        {actions && <div class="actions">{actions}</div>}
      </header>
      {children}
    </>
  );
}
