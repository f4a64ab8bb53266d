// How a file looks to who opens its link. It comes from an edge, as it does for everybody; a text is shown as text.

import { useEffect, useState } from "preact/hooks";
import { either } from "../api.ts";
import type { StoredFile } from "../file.ts";
import { Icon, kindOf } from "../parts/icon.tsx";
import { bytes, visible } from "../shown.ts";

/** A larger picture is shown when it is asked for. */
const IMAGE_BYTES_MAX = 20_000_000;
const TEXT_BYTES = 65_536;
const TEXT_DEADLINE_MS = 20_000;

export function Preview({ file }: { file: StoredFile }) {
  const [isWanted, setWanted] = useState(file.size <= IMAGE_BYTES_MAX);
  const [isBroken, setBroken] = useState(false);
  const kind = kindOf(file.type, file.kind === "folder");
  const name = visible(file.name);
  if (isBroken)
    return (
      <Instead
        kind={kind}
        words="It cannot be shown here: this browser does not know its format, its policy refuses it, or no edge is up."
      />
    );
  const shared = { src: file.url, onError: () => setBroken(true) };
  switch (kind) {
    case "image":
      if (isWanted) return <img class="preview" {...shared} alt={name} referrerpolicy="no-referrer" />;
      return <Instead kind={kind} words={`A picture of ${bytes(file.size)}.`} show={() => setWanted(true)} />;
    case "video":
      return <video class="preview" {...shared} controls preload="metadata" aria-label={name} />;
    case "audio":
      return <audio class="preview" {...shared} controls preload="metadata" aria-label={name} />;
    case "text":
      return <TextPreview file={file} fail={() => setBroken(true)} />;
    default:
      return (
        <Instead
          kind={kind}
          words={
            file.kind === "folder"
              ? "Its link opens index.html, or lists what is in it."
              : file.type === "application/pdf"
                ? "A PDF: its link opens it."
                : "No preview for this kind of file."
          }
        />
      );
  }
}

function Instead({ kind, words, show }: { kind: ReturnType<typeof kindOf>; words: string; show?: () => void }) {
  return (
    <div class="preview instead">
      <Icon name={kind} />
      <p class="dim">{words}</p>
      {show && (
        <button type="button" onClick={show}>
          Show it
        </button>
      )}
    </div>
  );
}

function TextPreview({ file, fail }: { file: StoredFile; fail: () => void }) {
  const [text, setText] = useState<string | null>(null);
  useEffect(() => {
    const control = new AbortController();
    head(file, control.signal).then(setText, () => control.signal.aborted || fail());
    return () => control.abort();
  }, [file.url]);
  return (
    <div class="preview text">
      {/* It scrolls, so the keyboard has to reach it. */}
      <pre tabIndex={0} aria-label={`Beginning of ${visible(file.name)}`}>
        {text ?? "Loading…"}
      </pre>
      {file.size > TEXT_BYTES && <small class="dim">The first {bytes(TEXT_BYTES)}.</small>}
    </div>
  );
}

async function head(file: StoredFile, signal: AbortSignal): Promise<string> {
  const answer = await fetch(file.url, {
    ...(file.size > 0 && { headers: { range: `bytes=0-${TEXT_BYTES - 1}` } }),
    credentials: "omit",
    referrerPolicy: "no-referrer",
    signal: either(signal, AbortSignal.timeout(TEXT_DEADLINE_MS)),
  });
  if (!answer.ok) throw new Error(`the edge answered ${answer.status}`);
  return new TextDecoder().decode((await answer.arrayBuffer()).slice(0, TEXT_BYTES));
}
