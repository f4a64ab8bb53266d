// How fast an upload is, by what it sent in the last seconds. Pure; the time is an argument.

const WINDOW_MS = 6000;

export class Rate {
  private samples: { at: number; sent: number }[] = [];

  /** Notes how many bytes were sent by now. */
  add(at: number, sent: number): void {
    const last = this.samples.at(-1);
    // It goes back when an upload goes on from what the server has.
    if (last && sent < last.sent) this.samples = [];
    this.samples.push({ at, sent });
    while (this.samples.length > 2 && at - (this.samples[0]?.at ?? at) > WINDOW_MS) this.samples.shift();
  }

  /** Returns bytes a second, or null while nobody can tell. */
  perSecond(): number | null {
    const [first, last] = [this.samples[0], this.samples.at(-1)];
    if (!first || !last || last.at - first.at < 500) return null;
    return ((last.sent - first.sent) * 1000) / (last.at - first.at);
  }

  clear(): void {
    this.samples = [];
  }
}
