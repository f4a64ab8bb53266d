// A file by tus: it can pause, and goes on where it stopped, over a reload of the page too. The browser keeps the
// address of each unfinished upload under a fingerprint of its file; the server keeps the bytes for seven days.

import { defaultOptions, DetailedError, Upload as Tus, type PreviousUpload } from "tus-js-client";
import { call, fault, Fault, mark, seconds, signedOut } from "../api.ts";
import { asFault } from "../use.ts";
import { Upload, type Stored, type Wishes } from "./upload.ts";

const ENDPOINT = "/tus";
const CHUNK_TYPE = "application/offset+octet-stream";
/** Up to this size a file goes with the request that creates its upload: one request, but a cut loses all of it. */
const AT_ONCE_BYTES_MAX = 4_000_000;
/** Between questions whether what came whole is stored. */
const STORING_PAUSE_MS = 3000;

export class Resumable extends Upload {
  override readonly isResumable = true;
  private tus: Tus | null = null;
  private storing: AbortController | null = null;

  constructor(
    private file: File | null,
    private readonly previous: PreviousUpload | null,
    private readonly wishes: Wishes | null,
    changed: () => void,
  ) {
    super(file?.name ?? previous?.metadata["filename"] ?? "file", file?.size ?? previous?.size ?? 0, changed);
    if (file === null) this.state.value = "missing";
  }

  /** Takes its file when it is the one that was begun, unchanged since: else two files would be mixed. */
  async take(file: File): Promise<boolean> {
    if (this.state.value !== "missing" || file.size !== this.size || file.name !== this.name) return false;
    const print = await defaultOptions.fingerprint(file, { endpoint: ENDPOINT });
    if (!this.previous?.urlStorageKey.startsWith(`tus::${print}::`)) return false;
    this.file = file;
    this.resume();
    return true;
  }

  /** Asks the server how much of it came; what it has no more is told. */
  async look(): Promise<void> {
    if (!this.url) return;
    const ask = { method: "HEAD", headers: { ...mark(), "tus-resumable": "1.0.0" } };
    const head = await fetch(this.url, ask).catch(() => null);
    const offset = Number(head?.headers.get("upload-offset") ?? Number.NaN);
    if (head?.ok && Number.isFinite(offset)) {
      this.sent.value = offset;
    } else if (head?.status === 404 || head?.status === 410) {
      await this.unlist();
      this.failed(
        new Fault(-1, "The server has it no more, after seven days or for another token. Drop the file anew."),
        false,
      );
    }
  }

  protected override send(): void {
    this.tus ??= this.made();
    this.tus?.start();
  }

  private made(): Tus | null {
    if (this.file === null) return null;
    const type: Record<string, string> = this.file.type ? { filetype: this.file.type } : {};
    // What was begun goes on there or not at all: anew it would be without the wishes that it was begun with.
    const where = this.previous?.uploadUrl ? { uploadUrl: this.previous.uploadUrl } : { endpoint: ENDPOINT };
    return new Tus(this.file, {
      ...where,
      fingerprint: (file) => defaultOptions.fingerprint(file, { endpoint: ENDPOINT }),
      headers: fields(this.wishes),
      // Of each request: who signs in anew goes on with another half of a session.
      onBeforeRequest: (request) => Object.entries(mark()).forEach(([name, value]) => request.setHeader(name, value)),
      metadata: { filename: this.file.name, ...type },
      uploadDataDuringCreation: this.file.size <= AT_ONCE_BYTES_MAX,
      removeFingerprintOnSuccess: true,
      // The queue waits and tries again: it knows Retry-After.
      retryDelays: null,
      onProgress: (sent) => this.progress(sent),
      onSuccess: ({ lastResponse }) => {
        const [id, url] = [lastResponse.getHeader("x-evernear-id"), lastResponse.getHeader("x-evernear-url")];
        if (id && url) this.ended({ id, url });
        else void this.settle();
      },
      onError: (error) => this.broke(error),
    });
  }

  private ended(stored: Stored): void {
    this.done(stored);
    void this.unlist();
  }

  /** Waits until what came whole is stored, however long that takes: the answer that told it was lost. */
  private async settle(): Promise<void> {
    const { signal } = (this.storing = new AbortController());
    const url = this.url ?? "";
    // An empty last chunk has a server that was cut begin anew to store it; 423: it is at it.
    const last = { ...mark(), "tus-resumable": "1.0.0", "upload-offset": `${this.size}`, "content-type": CHUNK_TYPE };
    try {
      for (;;) {
        const found = await call<Stored>(`${url}/file`, { signal }).catch((error) => {
          // 404: it is not whole, as far as the server knows; 409: it is being stored, or will be.
          if (![404, 409].includes(asFault(error).status)) throw error;
        });
        if (found) return this.ended(found.value);
        const answer = await fetch(url, { method: "PATCH", headers: last, signal });
        if (answer.ok) continue;
        if (answer.status !== 423) throw fault(answer.status, await answer.json().catch(() => null), null);
        this.note.value = "The server is still storing it.";
        await new Promise((resolve) => setTimeout(resolve, STORING_PAUSE_MS));
        signal.throwIfAborted();
      }
    } catch (error) {
      if (signal.aborted) return;
      const known = error instanceof TypeError ? new Fault(0, "The connection broke.") : asFault(error);
      this.failed(known, known.status === 0 || (known.status >= 500 && known.status !== 507) || known.status === 429);
    }
  }

  private broke(error: Error | DetailedError): void {
    const answer = "originalResponse" in error ? error.originalResponse : null;
    if (answer === null) {
      const isNetwork = "originalRequest" in error;
      this.failed(isNetwork ? new Fault(0, "The connection broke.") : unreadable(error), isNetwork);
      return;
    }
    const status = answer.getStatus();
    if (status === 401) signedOut.tell();
    const known = fault(status, parsed(answer.getBody()), answer.getHeader("retry-after") ?? null);
    const after = seconds(answer.getHeader("retry-after") ?? null);
    const mayHelp = (status >= 500 && status !== 507) || [408, 409, 423, 425, 429].includes(status);
    this.failed(new Fault(status, known.message, after), mayHelp);
  }

  protected override halt(): void {
    void this.tus?.abort();
    this.storing?.abort();
  }

  protected override async forget(): Promise<void> {
    const url = this.url;
    await this.unlist();
    if (!url) return;
    // What cannot be told now ends by itself after seven days.
    await fetch(url, { method: "DELETE", headers: { ...mark(), "tus-resumable": "1.0.0" } }).catch(() => null);
  }

  /** Has the browser forget that it was begun. */
  private async unlist(): Promise<void> {
    const all = await defaultOptions.urlStorage.findAllUploads();
    const mine = all.filter((it) => it.uploadUrl !== null && it.uploadUrl === this.url);
    for (const { urlStorageKey } of mine) await defaultOptions.urlStorage.removeUpload(urlStorageKey);
  }

  private get url(): string | null {
    return this.tus?.url ?? this.previous?.uploadUrl ?? null;
  }
}

/** Returns what was begun and not finished by this browser, the newest first. */
export async function unfinished(): Promise<PreviousUpload[]> {
  const all = await defaultOptions.urlStorage.findAllUploads();
  return all.filter((it) => it.uploadUrl).sort((a, b) => b.creationTime.localeCompare(a.creationTime));
}

/** Has the browser forget all that was begun. */
export async function forgetUnfinished(): Promise<void> {
  for (const { urlStorageKey } of await defaultOptions.urlStorage.findAllUploads())
    await defaultOptions.urlStorage.removeUpload(urlStorageKey);
}

/** Returns wishes as fields of a request. */
export function fields(wishes: Wishes | null): Record<string, string> {
  const all = Object.entries(wishes ?? {}).filter(([, value]) => value.trim() !== "");
  return Object.fromEntries(all.map(([name, value]) => [`x-evernear-${name}`, value.trim()]));
}

function unreadable(error: Error): Fault {
  return new Fault(-1, `The file cannot be read: ${error.message}. Was it changed or moved? Choose it again.`);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
