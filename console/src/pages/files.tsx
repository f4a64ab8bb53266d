// All files and folders, the newest first.

import { useEffect, useRef, useState } from "preact/hooks";
import { call, type Fault } from "../api.ts";
import { type StoredFile } from "../file.ts";
import { CopyButton } from "../parts/copy.tsx";
import { Empty, FaultBox, Loading } from "../parts/fault.tsx";
import { Icon, kindOf } from "../parts/icon.tsx";
import { Name } from "../parts/name.tsx";
import { Page } from "../parts/page.tsx";
import { link } from "../route.ts";
import { mayWrite } from "../session.ts";
import { bytes, count, day, minute, visible } from "../shown.ts";
import { storedCount } from "../upload/queue.ts";
import { asFault } from "../use.ts";
import { Erase } from "./erase.tsx";
import { Queue, UploadBox } from "./upload.tsx";

const PAGE_LINES = 50;
/** A larger picture is not fetched to be shown 44 pixels wide. */
const THUMBNAIL_BYTES_MAX = 5_000_000;
const SEARCH_WAIT_MS = 250;

export function FilesPage() {
  const [typed, setTyped] = useState("");
  const list = useList(useSettled(typed));
  const [erasing, setErasing] = useState<StoredFile | null>(null);
  return (
    <Page title="Files" line="Everybody who has a link can read what it leads to, unless its policy says otherwise.">
      {mayWrite() && <UploadBox />}
      <Queue />
      <section class="card" aria-label="Stored files">
        <header class="bar-head">
          <input
            type="search"
            aria-label="Search by name"
            placeholder="Search by name"
            value={typed}
            maxLength={120}
            onInput={(event) => setTyped(event.currentTarget.value)}
          />
          <span class="dim" role="status">
            {list.count !== undefined && count(list.count, typed ? "match" : "file").replace("matchs", "matches")}
          </span>
        </header>
        <FaultBox fault={list.fault} again={list.reload} />
        {list.files && list.files.length > 0 && <Table files={list.files} erase={setErasing} />}
        {list.files?.length === 0 && <Empty>{typed ? "No name has this in it." : "Nothing is stored yet."}</Empty>}
        {!list.files && !list.fault && <Loading />}
        {list.next && (
          <p class="actions">
            <button type="button" disabled={list.isLoading} onClick={list.more}>
              {list.isLoading ? "Loading…" : "More"}
            </button>
          </p>
        )}
      </section>
      {erasing && (
        <Erase file={erasing} close={() => setErasing(null)} erased={() => (list.drop(erasing.id), setErasing(null))} />
      )}
    </Page>
  );
}

function Table({ files, erase }: { files: StoredFile[]; erase: (file: StoredFile) => void }) {
  const body = useRef<HTMLTableSectionElement>(null);
  const key = (event: KeyboardEvent) => {
    const links = [...(body.current?.querySelectorAll<HTMLElement>("a.file") ?? [])];
    const here = links.findIndex((it) => it.closest("tr")?.contains(document.activeElement));
    const file = files[here];
    if (!file || event.altKey || event.ctrlKey || event.metaKey) return;
    const to = { ArrowDown: here + 1, ArrowUp: here - 1, Home: 0, End: links.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      links[Math.min(Math.max(to, 0), links.length - 1)]?.focus();
    } else if (event.key === "Delete" && mayWrite()) {
      event.preventDefault();
      erase(file);
    }
  };
  return (
    <table class="files">
      <thead>
        <tr>
          <th scope="col">Name</th>
          <th scope="col" class="wide">
            Policy
          </th>
          <th scope="col" class="wide">
            Stored
          </th>
          <th scope="col" class="number">
            Size
          </th>
          <th scope="col">
            <span class="offscreen">Link</span>
          </th>
        </tr>
      </thead>
      <tbody ref={body} onKeyDown={key}>
        {files.map((file) => (
          <Row key={file.id} file={file} />
        ))}
      </tbody>
    </table>
  );
}

function Row({ file }: { file: StoredFile }) {
  return (
    <tr>
      <th scope="row">
        <a class="file" href={link("file", file.id)} aria-keyshortcuts="Delete">
          <Thumbnail file={file} />
          <span>
            <Name of={file.name} />
            {file.kind === "folder" && "/"}
          </span>
        </a>
      </th>
      <td class="wide">
        <span class="chip">{visible(file.policy)}</span>
      </td>
      <td class="wide">
        <time dateTime={file.created} title={minute(file.created)}>
          {day(file.created)}
        </time>
        {file.expires && <span class="dim">, until {day(file.expires)}</span>}
      </td>
      <td class="number">{bytes(file.size)}</td>
      <td class="number">
        <CopyButton text={file.url} what={`link to ${visible(file.name)}`} more=" link" />
      </td>
    </tr>
  );
}

function Thumbnail({ file }: { file: StoredFile }) {
  const [isBroken, setBroken] = useState(false);
  const kind = kindOf(file.type, file.kind === "folder");
  if (kind !== "image" || file.size > THUMBNAIL_BYTES_MAX || isBroken)
    return (
      <span class="thumb">
        <Icon name={kind} />
      </span>
    );
  return (
    <img
      class="thumb"
      src={file.url}
      alt=""
      loading="lazy"
      decoding="async"
      width={44}
      height={34}
      referrerpolicy="no-referrer"
      onError={() => setBroken(true)}
    />
  );
}

function useSettled(text: string): string {
  const [settled, setSettled] = useState(text);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(text), SEARCH_WAIT_MS);
    return () => clearTimeout(timer);
  }, [text]);
  return settled;
}

interface List {
  files?: StoredFile[];
  count?: number | undefined;
  next?: string | null | undefined;
  fault: Fault | null;
  isLoading: boolean;
}

function useList(name: string) {
  const [state, setState] = useState<List>({ fault: null, isLoading: true });
  const running = useRef<AbortController | null>(null);
  const load = async (cursor: string | null) => {
    running.current?.abort();
    const control = (running.current = new AbortController());
    setState((was) => ({ ...was, fault: null, isLoading: true }));
    const ask = new URLSearchParams({ limit: String(PAGE_LINES), ...(name && { name }), ...(cursor && { cursor }) });
    try {
      const { value, count, next } = await call<StoredFile[]>(`/files?${ask}`, { signal: control.signal });
      if (control.signal.aborted) return;
      setState((was) => ({
        files: cursor ? [...(was.files ?? []), ...value] : value,
        count,
        next,
        fault: null,
        isLoading: false,
      }));
    } catch (error) {
      if (!control.signal.aborted) setState((was) => ({ ...was, fault: asFault(error), isLoading: false }));
    }
  };
  useEffect(() => {
    void load(null);
    return () => running.current?.abort();
  }, [name, storedCount.value]);
  return {
    ...state,
    reload: () => void load(null),
    more: () => void load(state.next ?? null),
    drop: (id: string) =>
      setState((was) => ({
        ...was,
        files: was.files?.filter((it) => it.id !== id) ?? [],
        count: was.count && was.count - 1,
      })),
  };
}
