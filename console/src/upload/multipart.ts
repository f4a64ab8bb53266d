// A folder as the body of a form (RFC 7578). A browser's own form holds a part for each file, and takes minutes for tens of
// thousands of them; here small files are read and put together, and large ones stay on the disk until they are sent.

import type { Folder } from "./dropped.ts";

const SMALL_BYTES = 128 << 10;
/** Files that are read at once. */
const READING_MAX = 32;
/** What was read is handed to the browser in pieces of this size; it may put them on the disk. */
const PIECE_BYTES = 4 << 20;

export interface Body {
  type: string;
  blob: Blob;
}

/** Puts a folder together, and tells how many of its files it has so far. Stops when the signal comes. */
export async function multipart(folder: Folder, told: (files: number) => void, signal: AbortSignal): Promise<Body> {
  const boundary = `evernear-${crypto.getRandomValues(new Uint32Array(4)).join("-")}`;
  const pieces: Blob[] = [];
  let open: BlobPart[] = [`--${boundary}\r\nContent-Disposition: form-data; name="name"\r\n\r\n${folder.name}\r\n`];
  let openBytes = 0;
  const close = () => {
    pieces.push(new Blob(open));
    [open, openBytes] = [[], 0];
  };
  for (let at = 0; at < folder.files.length; at += READING_MAX) {
    signal.throwIfAborted();
    const some = folder.files.slice(at, at + READING_MAX);
    const read = await Promise.all(
      some.map(({ path, file }) => (file.size <= SMALL_BYTES ? bytesOf(path, file) : file)),
    );
    for (const [index, { path, file }] of some.entries()) {
      const content = read[index] ?? file;
      open.push(`--${boundary}\r\n${head(path, file.type)}\r\n\r\n`, content, "\r\n");
      openBytes += content instanceof ArrayBuffer ? content.byteLength : 0;
    }
    if (openBytes >= PIECE_BYTES) close();
    told(at + some.length);
  }
  open.push(`--${boundary}--\r\n`);
  close();
  return { type: `multipart/form-data; boundary=${boundary}`, blob: new Blob(pieces) };
}

/** Reads a small file; what it throws names it. */
async function bytesOf(path: string, file: File): Promise<ArrayBuffer> {
  return file.arrayBuffer().catch((error: Error) => {
    throw new Error(`${path}: ${error.message}`);
  });
}

/** Returns the path of a large file that was changed or removed since it was chosen, if there is one. */
export async function unreadable({ files }: Folder): Promise<string | null> {
  for (const { path, file } of files) {
    if (file.size <= SMALL_BYTES) continue;
    const isThere = await file
      .slice(0, 1)
      .arrayBuffer()
      .then(
        () => true,
        () => false,
      );
    if (!isThere) return path;
  }
  return null;
}

/** Returns the lines before a file: its path below the folder, and its type. */
export function head(path: string, type: string): string {
  const name = path
    .replace(/\r/g, "%0D")
    .replace(/\n/g, "%0A")
    // Before the closing mark it would make that a part of the name.
    .replace(/\\$/, "%5C")
    .replace(/"/g, '\\"');
  const known = /^[\x20-\x7e]+$/.test(type) ? type : "application/octet-stream";
  return `Content-Disposition: form-data; name="file"; filename="${name}"\r\nContent-Type: ${known}`;
}
