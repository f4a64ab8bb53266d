// Small drawings; they say nothing that the text beside them does not say.

const PATHS = {
  files: "M3 6.5A1.5 1.5 0 0 1 4.5 5H8l1.5 2h6A1.5 1.5 0 0 1 17 8.5v6a1.5 1.5 0 0 1-1.5 1.5h-11A1.5 1.5 0 0 1 3 14.5z",
  names: "M3 10V4.5A1.5 1.5 0 0 1 4.5 3H10l7 7-7 7zM7 7h.01",
  policies: "M10 2.5l6 2v5c0 4-2.6 6.8-6 8-3.4-1.2-6-4-6-8v-5zM7.5 10l2 2 3.5-4",
  network:
    "M10 5.5v4M10 9.5L5.5 14M10 9.5l4.5 4.5M10 2.5a1.5 1.5 0 1 0 0 3 1.5 1.5 0 0 0 0-3zM4.5 14a1.5 1.5 0 1 0 0 3 1.5 1.5 0 0 0 0-3zM15.5 14a1.5 1.5 0 1 0 0 3 1.5 1.5 0 0 0 0-3z",
  tokens: "M12.5 3a4.5 4.5 0 0 0-4.3 5.8L3 14v3h3l.5-2H8l.5-2 1.7-1.2A4.5 4.5 0 1 0 12.5 3zM13.5 6.5h.01",
  image:
    "M4.5 4h11A1.5 1.5 0 0 1 17 5.5v9a1.5 1.5 0 0 1-1.5 1.5h-11A1.5 1.5 0 0 1 3 14.5v-9A1.5 1.5 0 0 1 4.5 4zM3 13l4-4 4 4 2-2 4 4M13 7.5h.01",
  video:
    "M4.5 5h11A1.5 1.5 0 0 1 17 6.5v7a1.5 1.5 0 0 1-1.5 1.5h-11A1.5 1.5 0 0 1 3 13.5v-7A1.5 1.5 0 0 1 4.5 5zM8.5 7.5v5l4-2.5z",
  audio: "M7 15V5l9-2v10M7 15a2 2 0 1 1-4 0 2 2 0 0 1 4 0zM16 13a2 2 0 1 1-4 0 2 2 0 0 1 4 0z",
  text: "M5 3h7l4 4v10H5zM12 3v4h4M7.5 10h5M7.5 13h5",
  other: "M5 3h7l4 4v10H5zM12 3v4h4",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 20 20" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** Returns the kind of thing that a media type names. */
export function kindOf(type: string, isFolder: boolean): IconName {
  if (isFolder) return "files";
  const [main] = type.split("/");
  if (main === "image" || main === "video" || main === "audio") return main;
  return isText(type) ? "text" : "other";
}

export function isText(type: string): boolean {
  const [essence = ""] = type.split(";");
  return /^text\/|^application\/(json|xml|toml|javascript|x-sh)$|\+(json|xml)$/.test(essence.trim());
}
