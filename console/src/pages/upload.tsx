// Where files are dropped, what new files get, and how far each upload is.

import { useSignal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { say } from "../notice.ts";
import { CopyButton } from "../parts/copy.tsx";
import { Field } from "../parts/field.tsx";
import { Name } from "../parts/name.tsx";
import { link } from "../route.ts";
import { session } from "../session.ts";
import { bytes, count, duration, visible } from "../shown.ts";
import { ofDrop, ofInput, reading, type Dropped } from "../upload/dropped.ts";
import { Form } from "../upload/form.ts";
import { add, cancel, clear, notSent, remove, uploads } from "../upload/queue.ts";
import { Resumable } from "../upload/resumable.ts";
import type { Upload, Wishes } from "../upload/upload.ts";

/** Lines of the queue that are shown; a folder's files chosen one by one may be thousands. */
const LINES_MAX = 50;
/** What is stored is in the list below too. */
const STORED_LINES_MAX = 5;
const NO_WISHES: Wishes = { policy: "", profile: "", expires: "", tags: "" };

export function UploadBox() {
  const [wishes, setWishes] = useState(NO_WISHES);
  const isOver = useSignal(false);
  const [files, folder] = [useRef<HTMLInputElement>(null), useRef<HTMLInputElement>(null)];
  const take = (dropped: Promise<Dropped> | Dropped) =>
    void Promise.resolve(dropped)
      .then((it) => add(it, wishes))
      .catch((error) => say(`It cannot be read: ${error.message}`));
  useAnywhere(take, isOver);
  const chosen = (event: { currentTarget: HTMLInputElement }) => {
    const input = event.currentTarget;
    if (input.files) take(ofInput(input.files));
    input.value = "";
  };
  return (
    <section class={isOver.value ? "drop over" : "drop"} aria-label="Store files">
      <p>
        <strong>Drop files or folders here</strong>, paste them, or
      </p>
      <p class="actions">
        <button type="button" class="main" onClick={() => files.current?.click()}>
          Choose files
        </button>
        <button type="button" onClick={() => folder.current?.click()}>
          Choose a folder
        </button>
      </p>
      <input ref={files} type="file" multiple hidden aria-label="Files" onChange={chosen} />
      <input ref={folder} type="file" hidden aria-label="Folder" {...{ webkitdirectory: true }} onChange={chosen} />
      {reading.value !== null && (
        <p class="dim" role="status">
          Reading: {count(reading.value, "file")} so far
        </p>
      )}
      {notSent.value > 0 && (
        <p class="warn" role="status">
          {notSent.value} of what was dropped here before {notSent.value === 1 ? "was" : "were"} not sent: drop them
          again.
        </p>
      )}
      <WishesForm wishes={wishes} set={setWishes} />
    </section>
  );
}

/** Takes what is dropped or pasted anywhere on the page: beside the box a browser would open it and leave. */
function useAnywhere(take: (dropped: Promise<Dropped> | Dropped) => void, isOver: { value: boolean }): void {
  const latest = useRef(take);
  latest.current = take;
  useEffect(() => {
    const has = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
    const control = new AbortController();
    const on = <K extends keyof WindowEventMap>(name: K, act: (event: WindowEventMap[K]) => void) =>
      addEventListener(name, act, { signal: control.signal });
    on("dragover", (event) => {
      if (!has(event)) return;
      event.preventDefault();
      isOver.value = true;
    });
    on("dragleave", (event) => {
      if (event.relatedTarget === null) isOver.value = false;
    });
    on("drop", (event) => {
      if (!has(event) || !event.dataTransfer) return;
      event.preventDefault();
      isOver.value = false;
      latest.current(ofDrop(event.dataTransfer));
    });
    on("paste", (event) => {
      const pasted = [...(event.clipboardData?.files ?? [])];
      if (pasted.length > 0) latest.current({ files: pasted, folders: [] });
    });
    return () => control.abort();
  }, []);
}

function WishesForm({ wishes, set }: { wishes: Wishes; set: (wishes: Wishes) => void }) {
  const { profile = "", policy = null, policies = [] } = session.value ?? {};
  const text = (name: keyof Wishes) => ({
    value: wishes[name],
    onInput: (event: { currentTarget: { value: string } }) => set({ ...wishes, [name]: event.currentTarget.value }),
  });
  const changed = Object.values(wishes).some((it) => it !== "");
  return (
    <details class="wishes">
      <summary>
        Stored as {visible(wishes.profile || profile || "the server chooses")}
        {(wishes.policy || policy) && <>, policy {visible(wishes.policy || policy || "")}</>}
        {wishes.expires && <>, until {visible(wishes.expires)}</>}
        {changed && <span class="chip">changed</span>}
      </summary>
      <div class="fields">
        <Field label="Policy" help="Who may have it, and for how long.">
          {(ids) => (
            <select {...ids} {...text("policy")}>
              <option value="">{policy ? `as set: ${visible(policy)}` : "as set"}</option>
              {policies.map((name) => (
                <option key={name} value={name}>
                  {visible(name)}
                </option>
              ))}
            </select>
          )}
        </Field>
        <Field label="Ends" help="2027-01-31, +30d or never.">
          {(ids) => <input {...ids} {...text("expires")} placeholder="never" autocomplete="off" />}
        </Field>
        <Field label="Redundancy" help="4+2: six shards, any two may be lost.">
          {(ids) => <input {...ids} {...text("profile")} placeholder={profile} autocomplete="off" />}
        </Field>
        <Field label="Tags" help="For policies: premium=1,red.">
          {(ids) => <input {...ids} {...text("tags")} autocomplete="off" />}
        </Field>
      </div>
    </details>
  );
}

export function Queue() {
  const all = uploads.value;
  if (all.length === 0) return null;
  const done = all.filter((it) => it.state.value === "done");
  const open = all.filter((it) => it.state.value !== "done");
  const failed = open.filter((it) => it.state.value === "failed").length;
  const shown = [...open.slice(0, LINES_MAX), ...done.slice(-STORED_LINES_MAX)];
  return (
    <section class="card queue" aria-label="Uploads">
      <header class="bar-head">
        <h2>Uploads</h2>
        <span class="dim" aria-live="polite">
          {done.length} of {all.length} stored{failed ? `, ${failed} failed` : ""}
        </span>
        {done.length > 0 && (
          <button type="button" class="plain" onClick={clear}>
            Clear the list
          </button>
        )}
      </header>
      <ul>
        {shown.map((upload) => (
          <Line key={upload.key} upload={upload} />
        ))}
      </ul>
      {all.length > shown.length && <p class="dim">and {all.length - shown.length} more</p>}
    </section>
  );
}

function Line({ upload }: { upload: Upload }) {
  const state = upload.state.value;
  const percent =
    upload.size === 0 ? (state === "done" ? 100 : 0) : Math.floor((upload.sent.value / upload.size) * 100);
  return (
    <li class={`upload ${state}`}>
      <div class="what">
        <Name of={upload.name} />
        {upload instanceof Form && <span class="chip">{count(upload.files, "file")}</span>}
        <span class="dim">{words(upload)}</span>
      </div>
      <Buttons upload={upload} />
      {state !== "done" && (
        <progress max={100} value={percent} aria-label={`${visible(upload.name)}: sent`}>
          {percent} %
        </progress>
      )}
      {upload.note.value && (
        <p class={state === "failed" ? "bad" : "warn"} role="status">
          {visible(upload.note.value)}
        </p>
      )}
      {upload instanceof Form && (state === "sending" || state === "queued") && (
        <p class="dim">A folder goes in one request: it cannot pause, and closing this page ends it.</p>
      )}
    </li>
  );
}

function words(upload: Upload): string {
  const [sent, size, speed] = [upload.sent.value, upload.size, upload.perSecond.value];
  const part = `${bytes(sent)} of ${bytes(size)}`;
  switch (upload.state.value) {
    case "queued":
      return `${bytes(size)}, waits for its turn`;
    case "sending":
      if (speed === null || speed <= 0) return part;
      return `${part}, ${bytes(speed)}/s, ${duration((size - sent) / speed)} left`;
    case "storing":
      return `${bytes(size)}, all sent; being stored`;
    case "paused":
      return `${part}, paused`;
    case "again":
      return `${part}, waits`;
    case "missing":
      return `${part} are on the server. Choose or drop the same file again to go on.`;
    case "failed":
      return `${part}, failed`;
    case "done":
      return `${bytes(size)}, stored`;
  }
}

function Buttons({ upload }: { upload: Upload }) {
  const state = upload.state.value;
  const name = visible(upload.name);
  const stored = upload.stored.value;
  const button = (label: string, act: () => void) => (
    <button type="button" aria-label={`${label}: ${name}`} onClick={act}>
      {label}
    </button>
  );
  if (stored) {
    return (
      <span class="actions">
        <CopyButton text={stored.url} what={`link to ${name}`} label="Copy link" />
        <a class="button" href={link("file", stored.id)} aria-label={`Open: ${name}`}>
          Open
        </a>
      </span>
    );
  }
  return (
    <span class="actions">
      {state === "sending" && upload.isResumable && button("Pause", () => upload.pause())}
      {(state === "paused" || state === "again") && button("Resume", () => upload.resume())}
      {state === "failed" && button("Try again", () => upload.resume())}
      {state === "missing" && upload instanceof Resumable && <ChooseAgain upload={upload} />}
      {state === "failed"
        ? button("Remove", () => (remove(upload), void upload.cancel()))
        : state !== "storing" && button("Cancel", () => void cancel(upload))}
    </span>
  );
}

function ChooseAgain({ upload }: { upload: Resumable }) {
  const input = useRef<HTMLInputElement>(null);
  const chosen = async (event: { currentTarget: HTMLInputElement }) => {
    const file = event.currentTarget.files?.[0];
    if (file && !(await upload.take(file))) {
      upload.note.value = `${file.name} is not the file that was begun, or was changed since. To store it, drop it anew.`;
    }
  };
  return (
    <>
      <button
        type="button"
        class="main"
        aria-label={`Choose the file: ${visible(upload.name)}`}
        onClick={() => input.current?.click()}
      >
        Choose the file
      </button>
      <input
        ref={input}
        type="file"
        hidden
        aria-label={`The file: ${visible(upload.name)}`}
        onChange={(event) => void chosen(event)}
      />
    </>
  );
}
