// What the pages decide without a server.

import assert from "node:assert/strict";
import { test } from "node:test";
import { load } from "./load.mjs";

// Modules that listen to the page find one.
globalThis.location = { hash: "" };
globalThis.addEventListener = () => undefined;

const shown = await load("shown.ts");
const { Upload } = await load("upload/upload.ts");
const { Rate } = await load("upload/rate.ts");
const { ofInput, ofDrop, FOLDER_NAMES_MAX } = await load("upload/dropped.ts");
const { head, multipart, unreadable } = await load("upload/multipart.ts");
const { parse, link } = await load("route.ts");
const { either, seconds, fault } = await load("api.ts");
const { path, rates } = await load("parts/plot.tsx");

test("bytes have three digits on both sides of a unit", () => {
  const cases = [
    [0, "0 B"],
    [999, "999 B"],
    [1000, "1.00 kB"],
    [9_994, "9.99 kB"],
    [9_995, "10.0 kB"],
    [99_949, "99.9 kB"],
    [99_950, "100 kB"],
    [999_499, "999 kB"],
    [999_500, "1.00 MB"],
    [1_551_771, "1.55 MB"],
    [10 ** 18, "1000 PB"],
  ];
  for (const [count, text] of cases) assert.equal(shown.bytes(count), text);
});

test("durations have two units", () => {
  const cases = [
    [0, "0 s"],
    [59.4, "59 s"],
    [60, "1 min"],
    [61, "1 min 1 s"],
    [3599, "59 min 59 s"],
    [3600, "1 h"],
    [7320, "2 h 2 min"],
    [200_000, "2 days"],
  ];
  for (const [count, text] of cases) assert.equal(shown.duration(count), text);
});

test("nothing in a name is hidden or turns the text around it", () => {
  assert.equal(shown.visible("invoice\u202Efdp.exe"), "invoice<U+202E>fdp.exe");
  assert.equal(shown.visible("a\u0000b\u200bc\u2066d\ufeff"), "a<U+0000>b<U+200B>c<U+2066>d<U+FEFF>");
  assert.equal(shown.visible("line\nfeed\u2028"), "line<U+000A>feed<U+2028>");
  assert.equal(shown.visible("tag\u{e0041}"), "tag<U+E0041>");
  assert.equal(shown.visible("lone\ud800"), "lone<U+D800>");
});

test("letters of all languages and emoji stay as they are", () => {
  const names = ["Größe.jpg", "猫.png", "صورة.jpg", "👩‍🚀.png", "👩🏽‍🚀 ❤️‍🔥"];
  for (const name of names) assert.equal(shown.visible(name), name);
});

test("a name in a snippet cannot leave its attribute", () => {
  assert.equal(shown.attribute(`"><script>'&`), "&quot;&gt;&lt;script&gt;&#39;&amp;");
});

test("a time that is none is shown as the text that it is", () => {
  assert.equal(shown.minute("soon\u202E"), "soon<U+202E>");
  assert.match(shown.day("2026-11-30T12:00:00Z"), /30 Nov 2026/);
});

test("a place is read from the widest to the narrowest, without what nobody told", () => {
  assert.equal(shown.placed("/eu-west/BE/home"), "eu-west / BE / home");
  assert.equal(shown.placed("/here/ZZ/disk1"), "here / disk1");
  assert.equal(shown.placed("//ZZ/"), "nowhere in particular");
});

test("a rate is of the last seconds, and none where an upload went back", () => {
  const rate = new Rate();
  rate.add(0, 0);
  assert.equal(rate.perSecond(), null);
  for (let second = 1; second <= 10; second++) rate.add(second * 1000, second * 500);
  assert.equal(rate.perSecond(), 500);
  rate.add(11_000, 100);
  assert.equal(rate.perSecond(), null);
});

test("a chosen folder keeps the paths below it", () => {
  const file = (webkitRelativePath) => ({ webkitRelativePath, size: 1 });
  const { files, folders } = ofInput([file(""), file("album/a.jpg"), file("album/deep/er/b.jpg"), file("other/c")]);
  assert.equal(files.length, 1);
  assert.deepEqual(
    folders.map((it) => [it.name, it.files.map(({ path }) => path)]),
    [
      ["album", ["a.jpg", "deep/er/b.jpg"]],
      ["other", ["c"]],
    ],
  );
});

test("a dropped folder is read to its end, however many entries a reader gives at a time", async () => {
  const leaf = (name) => ({ name, isFile: true, isDirectory: false, file: (give) => give({ name, size: 1 }) });
  const folder = (name, all) => ({
    name,
    isFile: false,
    isDirectory: true,
    createReader() {
      const left = [...all];
      return { readEntries: (give) => give(left.splice(0, 100)) };
    },
  });
  const many = Array.from({ length: 250 }, (_, index) => leaf(`${index}`));
  const entries = [folder("album", [folder("deep", many), leaf("top")]), leaf("alone")];
  const items = entries.map((entry) => ({ kind: "file", webkitGetAsEntry: () => entry }));
  const { files, folders } = await ofDrop({ items, files: [] });
  assert.deepEqual(
    files.map((it) => it.name),
    ["alone"],
  );
  assert.equal(folders[0].files.length, 251);
  assert.ok(folders[0].files.some(({ path }) => path === "deep/249"));
});

test("a fragment names a page, and one that names none the files", () => {
  assert.deepEqual(parse("#/file/abc"), { page: "file", rest: "abc" });
  assert.deepEqual(parse("#/policies/eu%2Fonly"), { page: "policies", rest: "eu/only" });
  for (const odd of ["", "#", "#/nowhere", "#key=secret", "#/__proto__"]) assert.equal(parse(odd).page, "files");
  assert.equal(parse("#/names/%E0%A4%A").rest, "");
  assert.equal(parse(link("policies", "a/b #c")).rest, "a/b #c");
});

test("a server is believed how long to wait, within bounds", () => {
  const cases = [
    [null, null],
    ["7", 7],
    ["0", 1],
    ["86400", 60],
    ["Wed, 21 Oct 2026 07:28:00 GMT", null],
    ["-1", null],
  ];
  for (const [field, wait] of cases) assert.equal(seconds(field), wait);
  assert.equal(fault(500, null, "5").retryAfter, null);
  assert.equal(fault(503, { error: { message: "nodes are away" } }, "5").retryAfter, 5);
  assert.equal(fault(503, { error: { message: "nodes are away" } }, "5").message, "nodes are away");
  assert.equal(fault(502, "<html>", null).message, "The server answered 502.");
});

test("a plot goes from left to right and its greatest value is at the top", () => {
  assert.equal(
    path(
      [
        { at: 0, value: 0 },
        { at: 10, value: 5 },
        { at: 20, value: 10 },
      ],
      10,
    ),
    "M0.0 53.0L120.0 28.0L240.0 3.0",
  );
  assert.equal(path([{ at: 5, value: 0 }], 0), "M0.0 53.0");
});

test("of two signals the first counts", () => {
  const [one, other] = [new AbortController(), new AbortController()];
  const signal = either(one.signal, other.signal);
  assert.ok(!signal.aborted);
  other.abort("late");
  assert.equal(signal.reason, "late");
  assert.ok(either(AbortSignal.abort(), one.signal).aborted);
});

test("a rate is of a second, and a count that began anew did not shrink", () => {
  const counts = [0, 500, 100, 100].map((value, index) => ({ at: index * 2000, value }));
  assert.deepEqual(
    rates(counts).map(({ value }) => value),
    [250, 0, 0],
  );
  assert.deepEqual(rates([{ at: 0, value: 7 }]), []);
});

test("a form has each file as it is, whatever is in its name", async () => {
  assert.equal(
    head('a "b"\r\nc\\', "text/plain"),
    'Content-Disposition: form-data; name="file"; filename="a \\"b\\"%0D%0Ac%5C"\r\nContent-Type: text/plain',
  );
  assert.match(head("x", "evil\r\ntype"), /Content-Type: application\/octet-stream$/);
  const bytes = [new Uint8Array(3_000_000).fill(7), new Uint8Array(100).fill(8), new Uint8Array(0)];
  const files = bytes.map((it, index) => ({ path: `in/${index}`, file: new File([it], `${index}`) }));
  const counts = [];
  const { type, blob } = await multipart(
    { name: "album", files },
    (count) => counts.push(count),
    new AbortController().signal,
  );
  const form = await new Response(blob, { headers: { "content-type": type } }).formData();
  assert.equal(form.get("name"), "album");
  const read = form.getAll("file");
  for (const [index, it] of bytes.entries()) assert.deepEqual(new Uint8Array(await read[index].arrayBuffer()), it);
  assert.deepEqual(counts, [3]);
});

test("a form that is given up is not put together", async () => {
  const files = [{ path: "x", file: new File(["x"], "x") }];
  await assert.rejects(multipart({ name: "album", files }, () => undefined, AbortSignal.abort()));
});

test("a folder has as many names as the format allows in one, and more in those below it", async () => {
  const file = (path) => ({ webkitRelativePath: `album/${path}`, size: 1 });
  const full = Array.from({ length: FOLDER_NAMES_MAX }, (_, index) => file(`in/${index}`));
  assert.equal(ofInput([...full, file("top"), file("in2/x")]).folders[0].files.length, FOLDER_NAMES_MAX + 2);
  assert.throws(() => ofInput([...full, file("in/sub/x")]), /album\/in\/ has over 131,072 names/);
  const entry = (name, all) => ({
    name,
    isFile: !all,
    isDirectory: !!all,
    file: (give) => give({ name, size: 1 }),
    createReader() {
      let at = 0;
      return { readEntries: (give) => give(all.slice(at, (at += 10_000))) };
    },
  });
  const leaves = (count) => Array.from({ length: count }, (_, index) => entry(`${index}`));
  const dropped = (count) => {
    const folder = entry("album", [entry("a", leaves(count)), entry("b", leaves(2))]);
    return ofDrop({ items: [{ kind: "file", webkitGetAsEntry: () => folder }], files: [] });
  };
  await assert.rejects(dropped(FOLDER_NAMES_MAX + 1), /album\/a\/ has over 131,072 names/);
});

test("a file that cannot be read any more is named", async () => {
  const broken = () => Promise.reject(new Error("changed"));
  const small = { path: "in/small", file: { size: 10, type: "", arrayBuffer: broken } };
  const { signal } = new AbortController();
  await assert.rejects(
    multipart({ name: "album", files: [small] }, () => undefined, signal),
    /in\/small: changed/,
  );
  const large = (path, arrayBuffer) => ({ path, file: { size: 1e6, slice: () => ({ arrayBuffer }) } });
  const fine = large("fine", () => Promise.resolve(new ArrayBuffer(1)));
  assert.equal(await unreadable({ name: "album", files: [small, fine, large("in/film", broken)] }), "in/film");
  assert.equal(await unreadable({ name: "album", files: [fine] }), null);
});

test("what begins anew with each try is not tried for ever, and what goes further is", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  class Broken extends Upload {
    tries = 0;
    constructor(isResumable, sent) {
      super("album", 1000, () => this.state?.value === "queued" && this.begin());
      Object.assign(this, { isResumable, sentOf: sent });
    }
    send() {
      this.tries += 1;
      for (const sent of [0, this.sentOf(this.tries)]) this.progress(sent);
      this.failed(fault(0, null, null), true);
    }
    halt() {}
    async forget() {}
  }
  const tries = (upload) => {
    upload.begin();
    for (let round = 0; round < 50; round++) context.mock.timers.tick(60_000);
    return upload.tries;
  };
  assert.equal(tries(new Broken(false, () => 900)), 7);
  assert.equal(tries(new Broken(true, () => 900)), 7);
  assert.ok(tries(new Broken(true, (at) => at)) > 50);
});
