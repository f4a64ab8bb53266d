// Who is signed in. The secret is in a cookie that no script can read; this page knows only what its holder may do.

import { signal } from "@preact/signals";
import { call, SESSION, signedOut } from "./api.ts";
import { say } from "./notice.ts";

export interface Session {
  owner: string;
  scope: "read" | "write" | "admin";
  /** The name of the token. */
  token: string;
  version: string;
  /** `http://{label}.localhost:8080/{name}`. */
  urlPattern: string;
  /** Redundancy of new files. */
  profile: string;
  /** Policy of new files, where one is set. */
  policy: string | null;
  policies: string[];
}

/** Undefined until it was asked for; null when nobody is signed in. */
export const session = signal<Session | null | undefined>(undefined);
/** Why nobody is signed in, where that needs a word. */
export const refused = signal("");

signedOut.tell = () => {
  session.value = null;
};

export const mayWrite = () => session.value?.scope === "write" || session.value?.scope === "admin";
export const isAdmin = () => session.value?.scope === "admin";

// A link may be opened in a tab that shows the console already.
addEventListener("hashchange", () => location.hash.startsWith("#key=") && void begin());

/** Signs in by the key of a one-time link, when there is one; then asks who is signed in. */
export async function begin(): Promise<void> {
  const key = /^#key=(.+)$/.exec(location.hash)?.[1];
  if (key !== undefined) {
    // Out of the address and the history before anything else happens with it.
    history.replaceState(null, "", `${location.pathname}#/files`);
    const failed = await signIn({ key });
    if (failed === null) return;
    await look();
    const why = `This link does not sign in: ${failed} A link counts once, for 10 minutes.`;
    if (session.value) say(why);
    else refused.value = why;
    return;
  }
  await look();
}

/** Returns null when signed in, else why not. */
export async function signIn(by: { key: string } | { token: string }): Promise<string | null> {
  try {
    await call(SESSION, { method: "POST", json: by });
    await look();
    refused.value = "";
    return session.value ? null : "the server did not keep the session; does this browser take cookies?";
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

async function look(): Promise<void> {
  try {
    session.value = (await call<Session>(SESSION)).value;
  } catch (error) {
    session.value = null;
    const status = (error as { status?: number }).status;
    if (status !== 401 && error instanceof Error) refused.value = error.message;
  }
}

export async function signOut(): Promise<void> {
  try {
    await call(SESSION, { method: "DELETE" });
  } finally {
    session.value = null;
    location.hash = "";
  }
}
