// One upload as the page shows it. What sends it is a Resumable or a Form; the queue says when.

import { signal } from "@preact/signals";
import type { Fault } from "../api.ts";
import { Rate } from "./rate.ts";

/**
 * queued: waits for its turn. sending: bytes go out. storing: all came, nodes get their shards. paused: by the user.
 * again: something failed, and it goes on by itself. missing: begun before the page was loaded anew; its file is asked
 * for. failed: it does not go on by itself. done: stored.
 */
export type State = "queued" | "sending" | "storing" | "paused" | "again" | "missing" | "failed" | "done";

export interface Stored {
  id: string;
  url: string;
}

/** What the sender of new files wishes for them; empty texts leave the choice to the server. */
export interface Wishes {
  policy: string;
  profile: string;
  expires: string;
  tags: string;
}

const AGAIN_SECONDS = [1, 2, 5, 10, 20, 30];
let keys = 0;

export abstract class Upload {
  readonly key = ++keys;
  readonly state = signal<State>("queued");
  readonly sent = signal(0);
  readonly perSecond = signal<number | null>(null);
  /** Why it waits or failed. */
  readonly note = signal("");
  readonly stored = signal<Stored | null>(null);
  private readonly rate = new Rate();
  private failures = 0;
  /** Bytes that went out at most, in whichever try. */
  private furthest = 0;
  private timer = 0;

  constructor(
    readonly name: string,
    readonly size: number,
    private readonly changed: () => void,
  ) {}

  /** Whether it can stop and go on where it stopped. */
  abstract readonly isResumable: boolean;
  /** Sends, or goes on. */
  protected abstract send(): void;
  /** Stops sending; what the server has stays. */
  protected abstract halt(): void;
  /** Tells the server to drop what it has. */
  protected abstract forget(): Promise<void>;

  begin(): void {
    this.rate.clear();
    this.perSecond.value = null;
    this.note.value = "";
    this.turn("sending");
    this.send();
  }

  pause(): void {
    clearTimeout(this.timer);
    this.halt();
    this.turn("paused");
  }

  /** Puts it into the queue again, after a pause or a fault. */
  resume(): void {
    clearTimeout(this.timer);
    this.turn("queued");
  }

  async cancel(): Promise<void> {
    clearTimeout(this.timer);
    this.halt();
    this.turn("failed");
    await this.forget();
  }

  protected progress(sent: number): void {
    if (this.state.value !== "sending" && this.state.value !== "storing") return;
    this.rate.add(performance.now(), sent);
    // What begins anew with each try gets nowhere by sending the same bytes again.
    if (this.isResumable && sent > this.furthest) this.failures = 0;
    this.furthest = Math.max(this.furthest, sent);
    this.sent.value = sent;
    this.perSecond.value = this.rate.perSecond();
    if (sent >= this.size) this.turn("storing");
  }

  protected done(stored: Stored): void {
    this.sent.value = this.size;
    this.stored.value = stored;
    this.turn("done");
  }

  /** Goes on later, where that may help; else it failed. */
  protected failed(fault: Fault, mayHelp: boolean): void {
    this.note.value = [fault.message, fault.step].filter(Boolean).join(" ");
    if (!mayHelp || this.failures >= AGAIN_SECONDS.length) {
      this.failures = 0;
      this.turn("failed");
      return;
    }
    const seconds = fault.retryAfter ?? AGAIN_SECONDS[this.failures] ?? 30;
    this.failures += 1;
    this.note.value = `${fault.message} It goes on by itself in ${seconds} s.`;
    this.timer = setTimeout(() => this.resume(), seconds * 1000);
    this.turn("again");
  }

  private turn(state: State): void {
    if (this.state.value === state) return;
    this.state.value = state;
    this.changed();
  }
}
