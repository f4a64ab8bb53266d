// A file or folder, as the API tells it (docs/api.md).

export interface StoredFile {
  id: string;
  label: string;
  url: string;
  name: string;
  kind: "file" | "folder";
  type: string;
  size: number;
  objects: number;
  created: string;
  expires: string | null;
  keep_until: string | null;
  policy: string;
  profile: string;
  places: string[];
  at_most: string[];
  tags: string[];
  cid?: string;
}

export const path = (id: string) => `/files/${encodeURIComponent(id)}`;
