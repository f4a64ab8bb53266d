// A labelled field of a form, with a line of help.

import type { ComponentChildren } from "preact";
import { useId } from "preact/hooks";

export function Field({
  label,
  help,
  children,
}: {
  label: string;
  help?: string;
  children: (ids: { id: string; "aria-describedby"?: string }) => ComponentChildren;
}) {
  const id = useId();
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children(help ? { id, "aria-describedby": `${id}-help` } : { id })}
      {help && <small id={`${id}-help`}>{help}</small>}
    </div>
  );
}
