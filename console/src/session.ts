// Who is signed in. A session is two secrets: one in a cookie that no script can read, one that this page keeps.

import { signal } from "@preact/signals";
import { call, Fault, keep, SESSION, signedOut } from "./api.ts";
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
/** What to do where somebody else may have opened a link. */
const SPENT =
  "If it was none of you who opened it: evernear twin token rm console signs out all who came by links, and evernear twin token ls shows what they made.";
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
    const why = `This link does not sign in: ${failed}`;
    if (session.value) say(why);
    else refused.value = why;
    return;
  }
  await look();
}

/** Returns null when signed in, else why not. */
export async function signIn(by: { key: string } | { token: string }): Promise<string | null> {
  try {
    // In clear, over a network, no secret goes out before the server says that it may.
    if (!globalThis.isSecureContext) await askWithout();
    keep((await call<{ field: string }>(SESSION, { method: "POST", json: by })).value.field);
    await look();
    refused.value = "";
    return session.value ? null : "the server did not keep the session; does this browser take cookies?";
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return error instanceof Fault && error.code === "ERROR_LINK_SPENT" ? `${message}. ${SPENT}` : message;
  }
}

/** Asks to sign in without a secret: a server that would take one says only that there is none. */
async function askWithout(): Promise<void> {
  await call(SESSION, { method: "POST", json: {} }).catch((error) => {
    if (!(error instanceof Fault && error.status === 400)) throw error;
  });
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
  } catch (error) {
    // Whoever is signed out already is where they want to be.
    if (!(error instanceof Fault && error.status === 401)) {
      say(`You are still signed in: ${error instanceof Error ? error.message : String(error)} Try again.`);
      return;
    }
  }
  keep(null);
  session.value = null;
  location.hash = "";
}

const WHO = "evernear-console-who";

/** Whether somebody else was signed in here before, and remembers who is now. */
export function isSomebodyElse({ owner, token }: Session): boolean {
  const [before, now] = [localStorage.getItem(WHO), `${owner} ${token}`];
  localStorage.setItem(WHO, now);
  return before !== null && before !== now;
}
