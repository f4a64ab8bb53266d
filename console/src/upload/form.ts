// A folder as one form. It goes in one request, so it cannot pause: a cut begins it anew. Where all of it went out and the
// answer was lost, it may be stored: then the list is asked before anything is sent again.

import { call, fault, Fault, mark, seconds, signedOut } from "../api.ts";
import type { StoredFile } from "../file.ts";
import { asFault } from "../use.ts";
import type { Folder } from "./dropped.ts";
import { count } from "../shown.ts";
import { multipart, unreadable } from "./multipart.ts";
import { fields } from "./resumable.ts";
import { Upload, type Wishes } from "./upload.ts";

/** Pauses between looks for a folder whose answer was lost. */
const SEEK_SECONDS = [2, 3, 5, 10, 20, 20, 30, 30];

export class Form extends Upload {
  override readonly isResumable = false;
  private control: AbortController | null = null;
  /** Folders of this name that were there before; null until they were asked for. */
  private before: Set<string> | null = null;
  private isAnswerLost = false;

  constructor(
    private readonly folder: Folder,
    private readonly wishes: Wishes,
    changed: () => void,
  ) {
    super(
      folder.name,
      folder.files.reduce((sum, { file }) => sum + file.size, 0),
      changed,
    );
  }

  get files(): number {
    return this.folder.files.length;
  }

  protected override send(): void {
    const control = (this.control = new AbortController());
    const work = this.isAnswerLost ? this.seek(control.signal) : this.post(control.signal);
    work.catch((error: unknown) => {
      if (control.signal.aborted) return;
      if (error instanceof Fault) this.failed(error, error.status === 0 || error.status === 429 || error.status >= 500);
      else this.failed(new Fault(-1, `A file cannot be read: ${asFault(error).message}`), false);
    });
  }

  /** Returns the folders on the server that have this one's name and size. */
  private async alike(signal: AbortSignal): Promise<StoredFile[]> {
    const ask = `/files?limit=1000&name=${encodeURIComponent(this.name)}`;
    const { value } = await call<StoredFile[]>(ask, { signal });
    return value.filter((it) => it.kind === "folder" && it.name === this.name && it.size === this.size);
  }

  /** Looks whether the folder whose answer was lost is stored, for as long as that is likely. */
  private async seek(signal: AbortSignal): Promise<void> {
    for (const pause of SEEK_SECONDS) {
      const found = (await this.alike(signal)).find((it) => !this.before?.has(it.id));
      if (found) return this.done(found);
      this.note.value = "All of it was sent, and the answer was lost. Looking whether it is stored.";
      await new Promise((resolve) => setTimeout(resolve, pause * 1000));
      signal.throwIfAborted();
    }
    this.isAnswerLost = false;
    const message =
      "All of it was sent, the answer was lost, and it is not in the list. Look there before you try again: it may be stored twice.";
    this.failed(new Fault(-1, message), false);
  }

  private async post(signal: AbortSignal): Promise<void> {
    const told = (files: number) => (this.note.value = `Reading: ${files} of ${count(this.files, "file")}`);
    this.before ??= new Set((await this.alike(signal)).map(({ id }) => id));
    const { type, blob } = await multipart(this.folder, told, signal);
    signal.throwIfAborted();
    this.note.value = "";
    // Only XMLHttpRequest tells how much of a body went out.
    const request = new XMLHttpRequest();
    signal.addEventListener("abort", () => request.abort());
    request.open("POST", "/files");
    for (const [name, value] of Object.entries({ ...mark(), ...fields(this.wishes), "content-type": type })) {
      request.setRequestHeader(name, value);
    }
    request.responseType = "json";
    // The form's own lines count too, so it is scaled to what the files have.
    request.upload.onprogress = ({ loaded, total }) =>
      this.progress(total > 0 ? Math.floor((loaded / total) * this.size) : 0);
    let isWhole = false;
    request.upload.onload = () => ((isWhole = true), this.progress(this.size));
    request.onload = () => this.answered(request, isWhole);
    request.onerror = () => void this.broke(isWhole, signal);
    request.send(blob);
  }

  /** Says what broke: a file that changed while it was sent, or the connection. */
  private async broke(isWhole: boolean, signal: AbortSignal): Promise<void> {
    const path = isWhole ? null : await unreadable(this.folder);
    if (signal.aborted) return;
    if (path !== null) {
      const message = `${path} was changed or removed while it was sent. Drop the folder anew.`;
      this.failed(new Fault(-1, message), false);
      return;
    }
    this.isAnswerLost = isWhole;
    const what = isWhole ? "The answer was lost." : "The connection broke, and the folder begins anew.";
    this.failed(new Fault(0, what), true);
  }

  private answered(request: XMLHttpRequest, isWhole: boolean): void {
    const { status, response } = request;
    if (status === 201 && response?.ok) {
      this.done(response.value);
      return;
    }
    if (status === 401) signedOut.tell();
    // What stands between gave up waiting; the twin may go on.
    this.isAnswerLost = isWhole && (status === 502 || status === 504);
    const after = request.getResponseHeader("retry-after");
    const known = fault(status, response, after);
    const mayHelp = (status >= 500 && status !== 507) || status === 408 || status === 429;
    this.failed(new Fault(status, known.message, seconds(after)), mayHelp);
  }

  protected override halt(): void {
    this.control?.abort();
  }

  protected override async forget(): Promise<void> {
    // A body that breaks off leaves nothing.
  }
}
