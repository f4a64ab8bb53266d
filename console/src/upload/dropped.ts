// What was dropped, chosen or pasted: files, and folders with all that is in them.

import { signal } from "@preact/signals";

/** Files of folders that were found so far; null while nothing is read. */
export const reading = signal<number | null>(null);

export interface Folder {
  name: string;
  /** With the path below the folder. */
  files: { path: string; file: File }[];
}

export interface Dropped {
  files: File[];
  folders: Folder[];
}

/** Names of one folder, as the format has it; folders in it have their own. */
export const FOLDER_NAMES_MAX = 131_072;

/** Reads what was dropped. The entries are taken before the first wait: a browser forgets them after the event. */
export async function ofDrop(transfer: DataTransfer): Promise<Dropped> {
  const entries = [...transfer.items].filter((it) => it.kind === "file").map((it) => it.webkitGetAsEntry());
  const plain = [...transfer.files];
  if (entries.every((entry) => entry === null)) return { files: plain, folders: [] };
  const dropped: Dropped = { files: [], folders: [] };
  try {
    for (const entry of entries) if (entry !== null) await take(entry, dropped);
  } finally {
    reading.value = null;
  }
  return dropped;
}

async function take(entry: FileSystemEntry, dropped: Dropped): Promise<void> {
  if (entry.isFile) dropped.files.push(await file(entry as FileSystemFileEntry));
  else dropped.folders.push({ name: entry.name, files: await walk(entry as FileSystemDirectoryEntry) });
}

/** Reads what an input of files or of a folder has; of folders, each file tells its path. */
export function ofInput(list: FileList): Dropped {
  const dropped: Dropped = { files: [], folders: [] };
  const folders = new Map<string, Folder>();
  for (const file of list) {
    const [name, ...rest] = file.webkitRelativePath.split("/");
    if (!name || rest.length === 0) {
      dropped.files.push(file);
      continue;
    }
    let folder = folders.get(name);
    if (!folder) folders.set(name, (folder = { name, files: [] }));
    folder.files.push({ path: rest.join("/"), file });
  }
  dropped.folders = [...folders.values()];
  for (const { name, files } of dropped.folders) {
    const names = new Map<string, Set<string>>();
    for (const { path } of files) {
      for (let at = path.lastIndexOf("/"), whole = path; ; at = whole.lastIndexOf("/")) {
        const above = whole.slice(0, at + 1);
        const known = names.get(above) ?? new Set();
        names.set(above, known.add(whole.slice(at + 1)));
        if (known.size > FOLDER_NAMES_MAX) throw new Error(tooMany(name, above));
        if (at < 0) break;
        whole = whole.slice(0, at);
      }
    }
  }
  return dropped;
}

function tooMany(folder: string, path: string): string {
  return `${folder}/${path} has over ${FOLDER_NAMES_MAX.toLocaleString("en")} names; divide it among folders`;
}

async function walk(folder: FileSystemDirectoryEntry): Promise<Folder["files"]> {
  const found: Folder["files"] = [];
  const open: { at: FileSystemDirectoryEntry; path: string }[] = [{ at: folder, path: "" }];
  for (let next = open.pop(); next; next = open.pop()) {
    const { at, path } = next;
    let names = 0;
    for await (const some of children(at)) {
      const folders = some.filter((it) => it.isDirectory) as FileSystemDirectoryEntry[];
      const files = some.filter((it) => it.isFile) as FileSystemFileEntry[];
      open.push(...folders.map((it) => ({ at: it, path: `${path}${it.name}/` })));
      const read = await Promise.all(files.map(async (it) => ({ path: path + it.name, file: await file(it) })));
      found.push(...read);
      reading.value = found.length;
      names += some.length;
      if (names > FOLDER_NAMES_MAX) throw new Error(tooMany(folder.name, path));
    }
  }
  return found;
}

/** Gives the entries of a folder, some 100 at a time as a reader does, which gives none at the end. */
async function* children(folder: FileSystemDirectoryEntry): AsyncGenerator<FileSystemEntry[]> {
  const reader = folder.createReader();
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return;
    yield some;
  }
}

function file(entry: FileSystemFileEntry): Promise<File> {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}
