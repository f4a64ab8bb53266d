// A text to copy: in a box with a button, or the button alone.

import { useRef } from "preact/hooks";
import { say } from "../notice.ts";

export function CopyButton({
  text,
  what,
  label = "Copy",
  more = "",
  main = false,
}: {
  text: string;
  what: string;
  label?: string;
  /** What follows the label where there is room. */ more?: string;
  main?: boolean;
}) {
  return (
    <button
      type="button"
      class={main ? "main" : ""}
      aria-label={`${label}${more}: ${what}`}
      onClick={() => void copy(text, what)}
    >
      {label}
      {more && <span class="more">{more}</span>}
    </button>
  );
}

export function CopyBox({ text, what, main = false }: { text: string; what: string; main?: boolean }) {
  const code = useRef<HTMLElement>(null);
  const select = () => code.current && getSelection()?.selectAllChildren(code.current);
  return (
    <div class="copy">
      <code ref={code} onClick={select}>
        {text}
      </code>
      <CopyButton text={text} what={what} main={main} />
    </div>
  );
}

async function copy(text: string, what: string): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    say(`Copied: ${what}.`);
  } catch {
    // Without TLS and beyond loopback a browser gives no clipboard.
    say(
      copyBySelection(text) ? `Copied: ${what}.` : "This browser does not let the page copy. Select the text instead.",
    );
  }
}

function copyBySelection(text: string): boolean {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "offscreen";
  const before = document.activeElement;
  (before?.closest("dialog") ?? document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (before instanceof HTMLElement) before.focus();
  return done;
}
