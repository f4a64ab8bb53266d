// A question over the page. The browser keeps the focus in it, closes it by Escape, and gives the focus back.

import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";
import type { Work } from "../use.ts";
import { FaultBox } from "./fault.tsx";

export function Dialog({ title, close, children }: { title: string; close: () => void; children: ComponentChildren }) {
  const element = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const before = document.activeElement;
    element.current?.showModal();
    return () => {
      element.current?.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <dialog ref={element} aria-labelledby={id} onCancel={(event) => (event.preventDefault(), close())}>
      <h2 id={id}>{title}</h2>
      {children}
    </dialog>
  );
}

/** Asks before something that cannot be taken back. The safe answer has the focus. */
export function Confirm({
  title,
  yes,
  work,
  act,
  close,
  children,
}: {
  title: string;
  yes: string;
  work: Work;
  act: () => void;
  close: () => void;
  children: ComponentChildren;
}) {
  return (
    <Dialog title={title} close={close}>
      {children}
      <FaultBox fault={work.fault} />
      <p class="actions end">
        <button type="button" autofocus onClick={close}>
          Keep it
        </button>
        <button type="button" class="danger" disabled={work.isBusy} onClick={act}>
          {work.isBusy ? "Working…" : yes}
        </button>
      </p>
    </Dialog>
  );
}
