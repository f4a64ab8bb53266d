// How sizes, times and names are shown. Pure.

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

/** Returns bytes with three digits, by powers of 1000: "264 kB", "1.55 MB". */
export function bytes(count: number): string {
  let [value, unit] = [count, 0];
  while (value >= 999.5 && unit < UNITS.length - 1) [value, unit] = [value / 1000, unit + 1];
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** Returns a number with its noun: "1 file", "1,284 files". */
export function count(number: number, noun: string): string {
  return `${number.toLocaleString("en-GB")} ${noun}${number === 1 ? "" : "s"}`;
}

/** Returns a duration in its largest two units: "24 s", "3 min 5 s", "2 h 10 min". */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const two = (first: string, rest: number, unit: string) => (rest === 0 ? first : `${first} ${rest} ${unit}`);
  if (whole < 3600) return two(`${Math.floor(whole / 60)} min`, whole % 60, "s");
  if (whole < 172_800) return two(`${Math.floor(whole / 3600)} h`, Math.floor((whole % 3600) / 60), "min");
  return `${Math.floor(whole / 86_400)} days`;
}

const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const MINUTE = new Intl.DateTimeFormat("en-GB", {
  day: "numeric",
  month: "short",
  year: "numeric",
  hour: "2-digit",
  minute: "2-digit",
});

/** Returns the day of a time in RFC 3339, in the viewer's zone; of what is none, the text itself. */
export function day(time: string): string {
  return dated(time, DAY);
}

/** Returns day and minute of a time in RFC 3339. */
export function minute(time: string): string {
  return dated(time, MINUTE);
}

function dated(time: string, format: Intl.DateTimeFormat): string {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? visible(time) : format.format(date);
}

/** Returns how long ago a time was: "12 s ago". */
export function ago(time: string, now: number): string {
  const then = new Date(time).getTime();
  if (Number.isNaN(then)) return visible(time);
  return now - then < 1500 ? "now" : `${duration((now - then) / 1000)} ago`;
}

// Controls, characters that turn the direction of what follows, those without width, and lone surrogates. With them a
// name could look like another one.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\u2028\u2029\u3164\u115f\u1160\u{e0000}-\u{e0fff}]/gu;
// Joins parts of one emoji; alone it is hidden all the same.
const JOINER = /(?<=[\p{Extended_Pictographic}\p{Emoji_Modifier}]\ufe0f?)\u200d(?=\p{Extended_Pictographic})/gu;

/** Returns a text in which nothing is hidden: such characters stand as `<U+202E>`. */
export function visible(text: string): string {
  const escaped = (part: string) => part.replace(HIDDEN, (it) => `<U+${code(it)}>`);
  return text.split(JOINER).map(escaped).join("\u200d");
}

function code(character: string): string {
  return (character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0");
}

/** Returns the beginning and the end of a long id. */
export function brief(id: string): string {
  return id.length <= 14 ? id : `${id.slice(0, 6)}…${id.slice(-6)}`;
}

/** Returns a text as it stands in an HTML attribute. */
export function attribute(text: string): string {
  const names: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[&<>"']/g, (it) => names[it] ?? it);
}

/** ISO 3166-1 leaves this code to users; here it is a country that nobody told. */
const NO_COUNTRY = "ZZ";

/** Returns a place as it is read, from the widest to the narrowest: "eu-west / BE / home". */
export function placed(path: string): string {
  return (
    path
      .split("/")
      .filter((it) => it !== "" && it !== NO_COUNTRY)
      .map(visible)
      .join(" / ") || "nowhere in particular"
  );
}
