// Requests to the twin. Each one has the half of the session that this page keeps, and a deadline; an answer
// that asks to come again is obeyed and said.

import { signal } from "@preact/signals";

/** Where the page's half of a session is kept. A browser gives this storage to no other port, unlike a cookie. */
const KEPT = "evernear-console";

/** Returns the field of each request of this page: the cookie alone is worth nothing. */
export function mark(): Record<string, string> {
  return { "x-evernear-console": localStorage.getItem(KEPT) ?? "1" };
}

/** Keeps the page's half of a session; null forgets it. */
export function keep(field: string | null): void {
  if (field === null) localStorage.removeItem(KEPT);
  else localStorage.setItem(KEPT, field);
}

export const SESSION = "/console/session";

const DEADLINE_MS = 90_000;
const TRIES_MAX = 5;
const WAIT_SECONDS_MAX = 60;

/** What went wrong, and what can be done about it. */
export class Fault extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly retryAfter: number | null = null,
    readonly code = "",
  ) {
    super(message);
  }

  /** Whether the server has no such route. */
  get isUnknownRoute(): boolean {
    return this.status === 404 || this.status === 405;
  }

  /** What the reader can do next; empty where the message says it. */
  get step(): string {
    switch (this.status) {
      case 0:
        return "Check that the server runs and that this machine reaches it, then try again.";
      case 401:
        return "Sign in again.";
      case 403:
        return "Sign in with a token that may do this.";
      case 404:
        return "It may have been erased meanwhile: go back to the list.";
      case 413:
        return "Store it in parts, or raise the bound in the server's configuration.";
      case 507:
        return "Erase what is not needed, or raise the token's quota.";
      default:
        return this.status >= 500 ? "Try again; if it stays, the server's log says more." : "";
    }
  }
}

/** An answer of the API: what was asked for, and what lists say beside it. */
export interface Answer<T> {
  value: T;
  count?: number;
  next?: string | null;
}

/** Said while a request waits because the server asked it to; empty otherwise. */
export const waiting = signal("");
/** Called when the server does not know this session. */
export const signedOut = { tell: (): void => undefined };

export interface Ask {
  method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  /** Sent as JSON. */
  json?: unknown;
  /** Sent as it is, in place of `json`. */
  text?: string;
  signal?: AbortSignal;
}

/** Asks once, or as often as the server says to come again. Throws a Fault. */
export async function call<T>(path: string, ask: Ask = {}): Promise<Answer<T>> {
  for (let tried = 1; ; tried++) {
    try {
      return await once<T>(path, ask);
    } catch (error) {
      const after = error instanceof Fault ? error.retryAfter : null;
      if (after === null || tried >= TRIES_MAX || ask.signal?.aborted) throw error;
      await pause(after);
    }
  }
}

async function pause(seconds: number): Promise<void> {
  for (let left = seconds; left > 0; left--) {
    waiting.value = `The server is busy. Trying again in ${left} s.`;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
  waiting.value = "";
}

async function once<T>(path: string, { method = "GET", json, text, signal }: Ask): Promise<Answer<T>> {
  const deadline = AbortSignal.timeout(DEADLINE_MS);
  const body = text ?? (json === undefined ? null : JSON.stringify(json));
  const type: Record<string, string> =
    body === null ? {} : { "content-type": text === undefined ? "application/json" : "application/toml" };
  let answer: Response;
  try {
    answer = await fetch(path, {
      method,
      body,
      headers: { ...mark(), ...type },
      signal: signal ? either(signal, deadline) : deadline,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Fault(0, deadline.aborted ? "The server took too long to answer." : "The server does not answer.");
  }
  if (answer.status === 204) return { value: undefined as T };
  const said = await answer.json().catch(() => null);
  if (answer.ok && said?.ok === true) return said as Answer<T>;
  // Whoever fails to sign in may be signed in already.
  if (answer.status === 401 && path !== SESSION) signedOut.tell();
  throw fault(answer.status, said, answer.headers.get("retry-after"));
}

/** Returns the fault that an answer of the API tells. */
export function fault(status: number, said: unknown, retryAfter: string | null): Fault {
  const { message, code } = (said as { error?: { message?: unknown; code?: unknown } } | null)?.error ?? {};
  const text = typeof message === "string" && message !== "" ? message : `The server answered ${status}.`;
  const after = status === 429 || status === 503 ? seconds(retryAfter) : null;
  return new Fault(status, text, after, typeof code === "string" ? code : "");
}

/** Returns the seconds of a Retry-After, within bounds; null where it is none. */
export function seconds(field: string | null): number | null {
  if (field === null || !/^\d+$/.test(field.trim())) return null;
  return Math.min(Math.max(Number(field), 1), WAIT_SECONDS_MAX);
}

/** Returns a signal that comes with the first of both. AbortSignal.any is younger than browsers in use. */
export function either(one: AbortSignal, other: AbortSignal): AbortSignal {
  const control = new AbortController();
  for (const it of [one, other]) {
    if (it.aborted) control.abort(it.reason);
    it.addEventListener("abort", () => control.abort(it.reason), { signal: control.signal });
  }
  return control.signal;
}
