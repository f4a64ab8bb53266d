// What was dropped, chosen or pasted: files, and folders with all that is in them.

export interface Folder {
  name: string;
  /** With the path below the folder. */
  files: { path: string; file: File }[];
}

export interface Dropped {
  files: File[];
  folders: Folder[];
}

/** As the twin bounds a folder; refused here before anything is read. */
export const FOLDER_FILES_MAX = 100_000;

/** Reads what was dropped. The entries are taken before the first wait: a browser forgets them after the event. */
export async function ofDrop(transfer: DataTransfer): Promise<Dropped> {
  const entries = [...transfer.items].filter((it) => it.kind === "file").map((it) => it.webkitGetAsEntry());
  const plain = [...transfer.files];
  if (entries.every((entry) => entry === null)) return { files: plain, folders: [] };
  const dropped: Dropped = { files: [], folders: [] };
  for (const entry of entries) {
    if (entry === null) continue;
    if (entry.isFile) dropped.files.push(await file(entry as FileSystemFileEntry));
    else dropped.folders.push({ name: entry.name, files: await walk(entry as FileSystemDirectoryEntry) });
  }
  return dropped;
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
  return dropped;
}

async function walk(folder: FileSystemDirectoryEntry): Promise<Folder["files"]> {
  const found: Folder["files"] = [];
  const open: { at: FileSystemDirectoryEntry; path: string }[] = [{ at: folder, path: "" }];
  for (let next = open.pop(); next; next = open.pop()) {
    const { at, path } = next;
    for (const entry of await children(at)) {
      if (entry.isDirectory) open.push({ at: entry as FileSystemDirectoryEntry, path: `${path}${entry.name}/` });
      else found.push({ path: path + entry.name, file: await file(entry as FileSystemFileEntry) });
      if (found.length > FOLDER_FILES_MAX) throw new Error(`${folder.name} has over ${FOLDER_FILES_MAX} files`);
    }
  }
  return found;
}

/** Returns all entries of a folder: a reader gives some 100 at a time, and none at the end. */
async function children(folder: FileSystemDirectoryEntry): Promise<FileSystemEntry[]> {
  const reader = folder.createReader();
  const all: FileSystemEntry[] = [];
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return all;
    all.push(...some);
  }
}

function file(entry: FileSystemFileEntry): Promise<File> {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}
