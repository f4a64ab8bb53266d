// What went wrong, what to do next, and a way to try again.

import type { ComponentChildren } from "preact";
import type { Fault } from "../api.ts";
import { visible } from "../shown.ts";

export function FaultBox({ fault, again }: { fault: Fault | null; again?: () => void }) {
  if (fault === null) return null;
  return (
    <div class="fault" role="alert">
      <span>
        {visible(fault.message)} {fault.step && <span class="dim">{fault.step}</span>}
      </span>
      {again && (
        <button type="button" onClick={again}>
          Try again
        </button>
      )}
    </div>
  );
}

/** Stands where a server has no route for what the page would show. */
export function NotOffered({ what, children }: { what: string; children?: ComponentChildren }) {
  return (
    <p class="empty">
      {what} is not offered by this server. {children}
    </p>
  );
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}

export function Loading() {
  return (
    <p class="empty" role="status">
      Loading…
    </p>
  );
}
