// Which page the fragment names: `#/files`, `#/file/ID`, `#/names`, .. The fragment never leaves the browser.

import { signal } from "@preact/signals";

export const SECTIONS = ["files", "names", "policies", "network", "tokens"] as const;
export type Section = (typeof SECTIONS)[number];

export interface Route {
  page: Section | "file";
  /** What comes after the page: the id of a file, the name of a policy. */
  rest: string;
}

/** Returns the route of a fragment; of what names none, the files. */
export function parse(fragment: string): Route {
  const [, page = "", ...rest] = fragment.replace(/^#/, "").split("/");
  const known = page === "file" || (SECTIONS as readonly string[]).includes(page);
  return known ? { page: page as Route["page"], rest: decoded(rest.join("/")) } : { page: "files", rest: "" };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

/** Returns the fragment that leads to a page. */
export function link(page: Route["page"], rest = ""): string {
  return rest === "" ? `#/${page}` : `#/${page}/${encodeURIComponent(rest)}`;
}

export const route = signal<Route>(parse(location.hash));

addEventListener("hashchange", () => {
  route.value = parse(location.hash);
});
