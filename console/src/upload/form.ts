// A folder as one form. It goes in one request, so it cannot pause: a cut begins it anew.

import { fault, Fault, MARK, seconds, signedOut } from "../api.ts";
import type { Folder } from "./dropped.ts";
import { count } from "../shown.ts";
import { multipart } from "./multipart.ts";
import { fields } from "./resumable.ts";
import { Upload, type Wishes } from "./upload.ts";

export class Form extends Upload {
  override readonly isResumable = false;
  private control: AbortController | null = null;

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
    this.post(control.signal).catch((error: Error) => {
      if (!control.signal.aborted) this.failed(new Fault(-1, `A file cannot be read: ${error.message}`), false);
    });
  }

  private async post(signal: AbortSignal): Promise<void> {
    const told = (files: number) => (this.note.value = `Reading: ${files} of ${count(this.files, "file")}`);
    const { type, blob } = await multipart(this.folder, told, signal);
    signal.throwIfAborted();
    this.note.value = "";
    // Only XMLHttpRequest tells how much of a body went out.
    const request = new XMLHttpRequest();
    signal.addEventListener("abort", () => request.abort());
    request.open("POST", "/files");
    for (const [name, value] of Object.entries({ ...MARK, ...fields(this.wishes), "content-type": type })) {
      request.setRequestHeader(name, value);
    }
    request.responseType = "json";
    // The form's own lines count too, so it is scaled to what the files have.
    request.upload.onprogress = ({ loaded, total }) =>
      this.progress(total > 0 ? Math.floor((loaded / total) * this.size) : 0);
    request.upload.onload = () => this.progress(this.size);
    request.onload = () => this.answered(request);
    request.onerror = () => this.failed(new Fault(0, "The connection broke, and the folder begins anew."), true);
    request.send(blob);
  }

  private answered(request: XMLHttpRequest): void {
    const { status, response } = request;
    if (status === 201 && response?.ok) {
      this.done(response.value);
      return;
    }
    if (status === 401) signedOut.tell();
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
