// A folder as one form. It goes in one request, so it cannot pause: a cut begins it anew.

import { fault, Fault, MARK, seconds, signedOut } from "../api.ts";
import type { Folder } from "./dropped.ts";
import { fields } from "./resumable.ts";
import { Upload, type Wishes } from "./upload.ts";

export class Form extends Upload {
  override readonly isResumable = false;
  private request: XMLHttpRequest | null = null;

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
    // Only XMLHttpRequest tells how much of a body went out.
    const request = (this.request = new XMLHttpRequest());
    request.open("POST", "/files");
    for (const [name, value] of Object.entries({ ...MARK, ...fields(this.wishes) })) {
      request.setRequestHeader(name, value);
    }
    request.responseType = "json";
    // The form's own lines count too, so it is scaled to what the files have.
    request.upload.onprogress = ({ loaded, total }) =>
      this.progress(total > 0 ? Math.floor((loaded / total) * this.size) : 0);
    request.upload.onload = () => this.progress(this.size);
    request.onload = () => this.answered(request);
    request.onerror = () => this.failed(new Fault(0, "The connection broke, and the folder begins anew."), true);
    request.send(this.body());
  }

  private body(): FormData {
    const form = new FormData();
    form.append("name", this.folder.name);
    for (const { path, file } of this.folder.files) form.append("file", file, path);
    return form;
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
    this.request?.abort();
  }

  protected override async forget(): Promise<void> {
    // A body that breaks off leaves nothing.
  }
}
