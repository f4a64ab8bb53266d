// Chromium drives the pages against a real network. The order counts: later tests use what earlier ones stored.
// EVERNEAR names the program, CHROMIUM the browser.

import assert from "node:assert/strict";
import { createHash, randomFillSync } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { once } from "node:events";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import puppeteer from "puppeteer-core";
import { drop as onto } from "./drop.mjs";
import { bytesOf, network, sample, until, view } from "./network.mjs";

const HOSTILE = [
  `<img src=x onerror=alert(1)>.png`,
  `"><svg onload=alert(2)>.html`,
  `'-alert(3)-'&lt;b&gt;.txt`,
  "invoice\u202Efdp.exe",
];
const SIZES = [
  [1440, 900],
  [360, 740],
];
const SCHEMES = ["light", "dark"];

let net, browser, page, folder, base;
const faults = [];
const elsewhere = new Set();

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "console-files-"));
  net = await network();
  browser = await puppeteer.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox"],
    protocolTimeout: 60_000,
  });
  page = await browser.newPage();
  await page.setViewport({ width: 1440, height: 900 });
  page.setDefaultTimeout(30_000);
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => {
    if (dialog.type() === "beforeunload") return dialog.accept();
    faults.push(`a script ran: ${dialog.message()}`);
    return dialog.dismiss();
  });
  page.on("console", (message) => /Content.Security|Refused/.test(message.text()) && faults.push(message.text()));
  page.on("request", (request) => elsewhere.add(new URL(request.url()).host));
});

after(async () => {
  await browser?.close();
  await net?.stop();
  if (folder) await rm(folder, { recursive: true, force: true });
});

/** Opens a page of the console. What is looked for next is not found in the page before it. */
const open = async (fragment) => {
  if (page.url().split("#")[0] === base)
    await page.evaluate(
      (it) =>
        new Promise((done) => {
          if (location.hash === it) return done();
          // The router listened first, and draws before the next task.
          addEventListener("hashchange", () => setTimeout(done), { once: true });
          location.hash = it;
        }),
      fragment,
    );
  else await page.goto(base + fragment);
  await page.waitForSelector("h1");
};
// By a timer: a page in the background draws no frames.
const waits = (isTrue, ...facts) => page.waitForFunction(isTrue, { polling: 100 }, ...facts);
const shows = (words) => waits((it) => document.body.innerText.includes(it), words);
const press = async (name) => {
  const button = await page.waitForSelector(`::-p-aria([name="${name}"][role="button"])`, { visible: true });
  await button.click();
};
const files = () =>
  page.evaluate(() =>
    fetch("/files?limit=1000", { headers: { "x-evernear-console": localStorage.getItem("evernear-console") ?? "1" } })
      .then((it) => it.json())
      .then((it) => it.value),
  );
/** What the browser keeps beside the session. */
const begun = () =>
  page.evaluate(() => Object.entries(localStorage).filter(([key]) => !key.startsWith("evernear-console")));
const named = async (name) => (await files()).find((it) => it.name === name);

async function drop(paths) {
  await page.waitForSelector(".drop");
  await onto(page, paths);
}

/** Does something while the page sends so many bytes a second. */
async function slowly(uploadThroughput, work) {
  const client = await page.createCDPSession();
  const line = (rate) =>
    client.send("Network.emulateNetworkConditions", {
      offline: false,
      latency: 0,
      downloadThroughput: -1,
      uploadThroughput: rate,
    });
  await client.send("Network.enable");
  await line(uploadThroughput);
  try {
    await work();
  } finally {
    await line(-1);
    await client.detach();
  }
}

const sentPercent = (least) => waits((it) => Number(document.querySelector("progress")?.value) >= it, least);

async function file(name, bytes) {
  const path = join(folder, name);
  await writeFile(path, bytes);
  return path;
}

afterEach(async (context) => {
  if (process.env.FAILURES && context.passed === false)
    await page.screenshot({ path: `${process.env.FAILURES}/${context.name}.png` });
});

test("a one-time link signs in, and nothing of it stays in the page", async () => {
  const link = await net.link();
  base = link.split("#")[0];
  await page.goto(link);
  await shows("Nothing is stored yet.");
  assert.equal(await page.evaluate(() => location.hash), "#/files");
  assert.equal(await page.evaluate(() => document.cookie), "");
  assert.ok(await page.evaluate(() => history.length <= 2));
  const key = link.split("#key=")[1];
  assert.ok(!(await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }))).includes(key));
  assert.deepEqual(await begun(), []);
  // The cookie alone is worth nothing: a program on another port that the browser opens gets it too.
  assert.equal(
    await page.evaluate(() => fetch("/files", { headers: { "x-evernear-console": "1" } }).then((it) => it.status)),
    401,
  );
  assert.equal(await page.evaluate(() => fetch("/files").then((it) => it.status)), 401);
});

test("a link counts once, also in a tab that shows the console already", async () => {
  const link = await net.link();
  await page.goto(link);
  await shows("Nothing is stored yet.");
  assert.equal(await page.evaluate(() => location.hash), "#/files");
  await page.goto(link);
  await shows("This link does not sign in");
  await shows("evernear twin token rm console signs out all who came by links");
  assert.equal(await page.evaluate(() => location.hash), "#/files");
});

test("a picture, a film and a folder are dropped and each link opens", async () => {
  await drop([sample("cat.jpg"), sample("clip.mp4"), sample("site")]);
  await shows("3 of 3 stored");
  for (const name of ["cat.jpg", "clip.mp4"]) {
    const { url, size } = await named(name);
    const { status, body } = await view(url);
    assert.equal(status, 200);
    assert.equal(body.length, size);
    assert.ok(body.equals(await bytesOf(name)), name);
  }
  const { url, kind } = await named("site");
  assert.equal(kind, "folder");
  assert.ok((await view(url)).body.equals(await bytesOf("site/index.html")));
  assert.ok((await view(new URL("img/lake.jpg", url).href)).body.equals(await bytesOf("site/img/lake.jpg")));
});

test("the list has a thumbnail that an edge gave", async () => {
  await waits(() => document.querySelector("img.thumb")?.naturalWidth === 1600);
});

test("a page of another web origin embeds the picture", async () => {
  const { url } = await named("cat.jpg");
  const server = createServer((_, answer) => {
    answer.setHeader("content-type", "text/html");
    answer.end(`<img src="${url}">`);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const other = await browser.newPage();
  try {
    await other.goto(`http://127.0.0.1:${server.address().port}/`);
    assert.equal(await other.$eval("img", (image) => image.naturalWidth), 1600);
  } finally {
    await other.close();
    server.close();
    await page.bringToFront();
  }
});

test("the film plays from the place that was sought", async () => {
  await open(`#/file/${(await named("clip.mp4")).id}`);
  await waits(() => document.querySelector("video")?.readyState >= 1);
  const at = await page.$eval("video", async (video) => {
    video.currentTime = 8;
    await new Promise((resolve, reject) => ((video.onseeked = resolve), (video.onerror = () => reject(video.error))));
    return video.currentTime;
  });
  assert.ok(Math.abs(at - 8) < 0.5);
});

test("names that are HTML or turn the text around are shown as they are", async () => {
  await open("#/files");
  for (const name of HOSTILE) await file(name, name);
  await drop(HOSTILE.map((name) => join(folder, name)));
  await shows("<img src=x onerror=alert(1)>.png");
  await until(
    "all are stored",
    async () => (await files()).filter((it) => HOSTILE.includes(it.name)).length === HOSTILE.length,
  );
  await open("#/files");
  for (const name of HOSTILE) await shows(name.replace("\u202E", "<U+202E>"));
  for (const name of HOSTILE) {
    await open(`#/file/${(await named(name)).id}`);
    await waits((it) => document.title.startsWith(it), name.replace("\u202E", "<U+202E>"));
  }
  assert.equal(await page.$$eval("[onerror], [onload], h1 img, h1 svg", (all) => all.length), 0);
});

test("a folder may have hostile names too", async () => {
  const name = `album <b>`;
  await mkdir(join(folder, name, "in"), { recursive: true });
  await file(`${name}/in/<img src=y onerror=alert(4)>.txt`, "deep");
  await file(`${name}/in/say "hi".txt`, "quoted");
  await open("#/files");
  await drop([join(folder, name)]);
  await shows("2 files");
  await until("it is stored", () => named(name));
  const { url } = await named(name);
  const path = (it) => new URL(`in/${encodeURIComponent(it)}`, url).href;
  assert.equal((await view(path("<img src=y onerror=alert(4)>.txt"))).body.toString(), "deep");
  assert.equal((await view(path('say "hi".txt'))).body.toString(), "quoted");
});

test("a text is shown as text", async () => {
  const notes = await file("notes.html", "<h1>heading</h1><script>alert(5)</script>\n".repeat(4));
  await open("#/files");
  await drop([notes]);
  await until("it is stored", () => named("notes.html"));
  await open(`#/file/${(await named("notes.html")).id}`);
  await shows("<script>alert(5)</script>");
});

test("an upload pauses, goes on after a reload of the page, and is exact", async () => {
  const bytes = randomFillSync(Buffer.alloc(24_000_000));
  const path = await file("large.bin", bytes);
  await open("#/files");
  await slowly(3_000_000, async () => {
    await drop([path]);
    await sentPercent(20);
    await press("Pause: large.bin");
    await shows("paused");
    await press("Resume: large.bin");
    await sentPercent(40);
    await page.reload();
    await shows("Choose or drop the same file again to go on.");
    assert.ok((await page.$eval("progress", (it) => it.value)) > 0, "the server has a part");
  });

  const other = await file("other.bin", bytes.subarray(1));
  const choose = async (chosen) => {
    const [chooser] = await Promise.all([page.waitForFileChooser(), press("Choose the file: large.bin")]);
    await chooser.accept([chosen]);
  };
  await choose(other);
  await shows("is not the file that was begun");
  await choose(path);
  await shows("1 of 1 stored");
  const { url } = await named("large.bin");
  const hash = (of) => createHash("sha256").update(of).digest("hex");
  assert.equal(hash((await view(url)).body), hash(bytes));
  assert.deepEqual(await begun(), []);
});

test("a cut connection is waited for, and the upload goes on by itself", async () => {
  const bytes = randomFillSync(Buffer.alloc(12_000_000));
  const path = await file("cut.bin", bytes);
  await open("#/files");
  await slowly(3_000_000, async () => {
    await drop([path]);
    await sentPercent(20);
    net.cut();
    await shows("It goes on by itself in");
  });
  await until("it is stored", () => named("cut.bin"));
  assert.ok((await view((await named("cut.bin")).url)).body.equals(bytes));
});

test("what was given up leaves nothing, and what the server has no more is told", async () => {
  const path = await file("given-up.bin", Buffer.alloc(12_000_000, 7));
  await open("#/files");
  let kept;
  await slowly(3_000_000, async () => {
    await drop([path]);
    await sentPercent(20);
    kept = await begun();
    await press("Cancel: given-up.bin");
    await until("it is forgotten", async () => (await begun()).length === 0);
  });
  const [[key, value]] = kept;
  const head = () =>
    page.evaluate(
      (it) =>
        fetch(it, {
          method: "HEAD",
          headers: { "x-evernear-console": localStorage.getItem("evernear-console") ?? "1", "tus-resumable": "1.0.0" },
        }).then((answer) => answer.status),
      JSON.parse(value).uploadUrl,
    );
  await until("the server dropped it", async () => (await head()) === 404);
  await page.evaluate((key, value) => localStorage.setItem(key, value), key, value);
  await page.reload();
  await shows("The server has it no more");
  await press("Remove: given-up.bin");
  assert.deepEqual(await begun(), []);
});

test("a folder whose answer was lost is looked for, and not stored twice", async () => {
  await mkdir(join(folder, "lost"), { recursive: true });
  await file("lost/a.txt", "a");
  await open("#/files");
  await page.evaluate(() => {
    const { send } = XMLHttpRequest.prototype;
    XMLHttpRequest.prototype.send = function (body) {
      XMLHttpRequest.prototype.send = send;
      this.onload = () => this.onerror();
      send.call(this, body);
    };
  });
  await drop([join(folder, "lost")]);
  await shows("1 of 1 stored");
  assert.equal((await files()).filter(({ name }) => name === "lost").length, 1);
});

test("what was not begun when the page was left is told to who comes back", async () => {
  await open("#/files");
  const paths = [];
  for (let index = 0; index < 5; index++) paths.push(await file(`late-${index}.bin`, Buffer.alloc(6_000_000, index)));
  await slowly(1_000_000, async () => {
    await drop(paths);
    await sentPercent(1);
    await page.reload();
    await shows("2 of what was dropped here before were not sent: drop them again.");
  });
  for (const index of [0, 1, 2]) await press(`Cancel: late-${index}.bin`);
  await until("they are forgotten", async () => (await begun()).length === 0);
});

test("who signs in after somebody else sees nothing of what they had begun", async () => {
  await open("#/files");
  const token = await page.evaluate(async () => {
    const headers = {
      "x-evernear-console": localStorage.getItem("evernear-console"),
      "content-type": "application/json",
    };
    const body = JSON.stringify({ name: "writer", scope: "write" });
    return (await (await fetch("/tokens", { method: "POST", headers, body })).json()).value.token;
  });
  await slowly(1_000_000, async () => {
    await drop([await file("private.bin", Buffer.alloc(6_000_000, 1))]);
    await sentPercent(1);
    await press("Pause: private.bin");
    await press("Sign out");
    await page.waitForSelector("input[name=token]");
  });
  await page.type("input[name=token]", token);
  await press("Sign in");
  await page.waitForSelector("a.file");
  await until("it is forgotten", async () => (await begun()).length === 0);
  assert.ok(!(await page.evaluate(() => document.body.innerText)).includes("private.bin"));
  await open(`#/file/${(await named("clip.mp4")).id}`);
  await shows("Who may read");
  assert.equal(
    await page.$("section[aria-label='Who may read'] select"),
    null,
    "an admin says which policy a file has",
  );
  await open("#/names");
  assert.equal(await page.$$eval("button", (all) => all.filter((it) => it.textContent === "Remove…").length), 0);
  await open("#/policies");
  await shows("Admins publish policies");
  assert.equal(await page.$$eval("button", (all) => all.filter((it) => it.textContent === "Publish…").length), 0);
  await page.goto(await net.link());
  await page.waitForSelector("a.file");
});

test("a sign-out that fails is told, and stays signed in", async () => {
  await open("#/files");
  await page.setRequestInterception(true);
  const cut = (request) => (request.method() === "DELETE" ? request.abort() : request.continue());
  page.on("request", cut);
  await press("Sign out");
  await shows("You are still signed in");
  page.off("request", cut);
  await page.setRequestInterception(false);
  await page.reload();
  await page.waitForSelector("a.file");
});

test("two hundred files at once are stored", async () => {
  await mkdir(join(folder, "many"));
  const paths = [];
  for (let index = 0; index < 200; index++) paths.push(await file(`many/${index}.txt`, `file ${index}`));
  await open("#/files");
  await page.reload();
  await drop(paths);
  await shows("200 of 200 stored");
  assert.equal(await page.$$eval(".upload", (all) => all.length), 5);
  const all = await files();
  for (let index = 0; index < 200; index++) assert.ok(all.some(({ name }) => name === `${index}.txt`));
});

test("a folder of two thousand files is stored", async () => {
  for (let index = 0; index < 2000; index++) {
    await mkdir(join(folder, `large/${index % 20}`), { recursive: true });
    await file(`large/${index % 20}/${index}.txt`, `file ${index}`);
  }
  await open("#/files");
  await drop([join(folder, "large")]);
  await shows("2,000 files");
  await until("it is stored", () => named("large"));
  const { url } = await named("large");
  assert.equal((await view(new URL("7/1987.txt", url).href)).body.toString(), "file 1987");
});

test("what edges hold of a file is purged", async () => {
  await open(`#/file/${(await named("large.bin")).id}`);
  await press("Purge caches");
  await shows("Edges drop what they hold of it");
});

test("a file of no bytes is stored", async () => {
  await open("#/files");
  await drop([await file("empty", "")]);
  await until("it is stored", () => named("empty"));
});

test("what is pasted is stored", async () => {
  await open("#/files");
  await page.evaluate(() => {
    const clipboardData = new DataTransfer();
    clipboardData.items.add(new File(["pasted"], "pasted.txt", { type: "text/plain" }));
    dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
  });
  await until("it is stored", () => named("pasted.txt"));
});

test("wishes of new files reach the server, and one that it refuses is told", async () => {
  await open("#/files");
  await page.click(".wishes summary");
  const [field] = await page.$$('.wishes input[placeholder="never"]');
  await field.type("+30d");
  await drop([await file("ends.txt", "ends")]);
  await until("it is stored", () => named("ends.txt"));
  assert.ok((await named("ends.txt")).expires);
  await field.type("ays ago");
  await drop([await file("refused.txt", "refused")]);
  await shows("x-evernear-expires");
  await press("Remove: refused.txt");
});

test("a name is searched for, and the list goes by the keyboard", async () => {
  await open("#/files");
  await page.type("input[type=search]", "CLIP");
  await shows("1 match");
  await page.focus("input[type=search]");
  await page.$eval(
    "input[type=search]",
    (input) => ((input.value = ""), input.dispatchEvent(new Event("input", { bubbles: true }))),
  );
  await waits(() => document.querySelectorAll("a.file").length > 5);
  await page.focus("a.file");
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("ArrowDown");
  assert.equal(await page.evaluate(() => [...document.querySelectorAll("a.file")].indexOf(document.activeElement)), 2);
  await page.keyboard.press("Delete");
  await page.waitForSelector("dialog[open]");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Keep it");
  await page.keyboard.press("Escape");
  await waits(() => [...document.querySelectorAll("a.file")].indexOf(document.activeElement) === 2);
  assert.equal(await page.$("dialog"), null);
});

test("a server that asks to come again is obeyed, and that is said", async () => {
  await page.setRequestInterception(true);
  let refused = 0;
  const stand = (request) => {
    if (!request.url().includes("/files?") || refused > 0) return request.continue();
    refused += 1;
    return request.respond({
      status: 503,
      headers: { "retry-after": "2" },
      contentType: "application/json",
      body: JSON.stringify({ ok: false, error: { code: "ERROR_BUSY", message: "busy" } }),
    });
  };
  page.on("request", stand);
  await page.reload();
  await shows("Trying again in");
  await page.waitForSelector("a.file");
  page.off("request", stand);
  await page.setRequestInterception(false);
});

test("a file that is dropped where nothing takes it is not opened in place of the console", async () => {
  await open("#/names");
  const left = await page.evaluate(() =>
    ["dragover", "drop"].map((name) => {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File(["x"], "x.txt"));
      const event = new DragEvent(name, { dataTransfer, bubbles: true, cancelable: true });
      return document.body.dispatchEvent(event);
    }),
  );
  assert.deepEqual(left, [false, false]);
});

test("what a server does not offer is said in its place", async () => {
  await page.setRequestInterception(true);
  const none = (request) =>
    new URL(request.url()).pathname !== "/network"
      ? request.continue()
      : request.respond({
          status: 404,
          contentType: "application/json",
          body: JSON.stringify({ ok: false, error: { message: "no path" } }),
        });
  page.on("request", none);
  await open("#/network");
  await shows("The list of nodes is not offered by this server.");
  page.off("request", none);
  await page.setRequestInterception(false);
});

test("a renewal is made, one that would end sooner is refused until it is agreed to", async () => {
  await open(`#/file/${(await named("ends.txt")).id}`);
  await shows("How long");
  const before = (await named("ends.txt")).expires;
  const field = await page.waitForSelector('input[placeholder="+365d"]');
  await field.type("+90d");
  await press("Renew");
  await until("it ends later", async () => (await named("ends.txt")).expires > before);
  await waits(() => document.querySelector('input[placeholder="+365d"]').value === "");
  await field.type("+10d");
  await press("Renew");
  await page.waitForSelector("[role=alert]");
  await page.click(".check input");
  await press("Renew");
  await until("it ends sooner", async () => (await named("ends.txt")).expires < before);
});

test("the health of a file is told", async () => {
  await open(`#/file/${(await named("clip.mp4")).id}`);
  await waits(() => document.querySelectorAll(".shards li.good").length === 3);
  await shows("whole, 1 may be lost");
});

test("a name is pointed, and leads there", async () => {
  const { id } = await named("cat.jpg");
  await open(`#/names/${id}`);
  await shows("Point a name");
  await page.type("form input", "studio");
  await press("Point");
  await page.waitForSelector('section[aria-label="studio"]');
  const url = await page.$eval('section[aria-label="studio"] code', (code) => code.textContent);
  await until("it leads there", async () => (await view(url)).status === 200);
  assert.ok((await view(url)).body.equals(await bytesOf("cat.jpg")));
});

test("a policy is checked and published", async () => {
  await open("#/policies");
  await shows("A new policy");
  const area = await page.waitForSelector("textarea");
  await press("Check");
  await shows("Checked: no fault.");
  await area.type('\n[[link]]\nuse = "geo"\nreceive-allow = ["UK"]\n');
  await press("Check");
  await page.waitForSelector(".problems li");
  await page.reload();
  await page.waitForSelector("textarea");
  await page.type("input:not([readonly])", "eu-only");
  await press("Publish…");
  await press("Publish");
  await waits(() => document.querySelector("tbody")?.innerText.includes("eu-only"));
});

test("the network lists its nodes", async () => {
  await open("#/network");
  await waits(() => document.querySelectorAll("tbody tr").length === 4);
  await shows("Nothing waits for repair.");
});

test("a token is made, shown once, and revoked", async () => {
  await open("#/tokens");
  await shows("Make a token");
  await page.type("form input", "laptop");
  await press("Make");
  await shows("The new token");
  const token = await page.$eval("dialog code", (code) => code.textContent);
  const asked = () =>
    page.evaluate(
      (it) =>
        fetch("/files", { headers: { authorization: `Bearer ${it}` }, credentials: "omit" }).then(
          (answer) => answer.status,
        ),
      token,
    );
  assert.equal(await asked(), 200);
  await press("I have copied it");
  await waits(() => document.querySelector("tbody")?.innerText.includes("laptop"));
  assert.ok(!(await page.content()).includes(token));
  await press("Revoke: laptop");
  await press("Revoke");
  await until("it counts no more", async () => (await asked()) === 401);
  await page.reload();
  await shows("What was changed");
  const said = await page.waitForSelector('section[aria-label="What was changed"] tbody');
  const log = await said.evaluate((it) => it.innerText);
  assert.match(log, /console\s+DELETE \/tokens\/.*\s+200/);
  assert.match(log, /console\s+POST \/tokens\s.*20[01]/);
});

test("every page holds what assistive technology needs, and fits a phone", async () => {
  const pages = {
    files: "#/files",
    file: `#/file/${(await named("cat.jpg")).id}`,
    film: `#/file/${(await named("clip.mp4")).id}`,
    names: "#/names",
    policies: "#/policies",
    network: "#/network",
    tokens: "#/tokens",
  };
  for (const [name, fragment] of Object.entries(pages)) {
    await page.setViewport({ width: 1440, height: 900 });
    await open(fragment);
    await settled();
    await look(name);
  }
});

async function settled() {
  await waits(
    () =>
      !/Loading…|Asking the nodes/.test(document.body.innerText) &&
      [...document.images].every((it) => it.complete || it.getBoundingClientRect().top > innerHeight) &&
      [...document.querySelectorAll("video")].every((it) => it.readyState >= 2),
  );
}

/** Returns what axe finds in the page as it is now, but what it calls minor. */
async function faultsOf() {
  await page.evaluate(await readFile(new URL("../node_modules/axe-core/axe.min.js", import.meta.url), "utf8"));
  const found = await page.evaluate(() =>
    window.axe.run().then(({ violations }) =>
      violations.map(
        ({ id, impact, nodes }) =>
          `${impact} ${id}: ${nodes
            .map((it) => it.html)
            .slice(0, 3)
            .join(" ")}`,
      ),
    ),
  );
  return found.filter((it) => !it.startsWith("minor"));
}

async function look(name) {
  for (const scheme of SCHEMES) {
    for (const [width, height] of SIZES) {
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      await page.setViewport({ width, height });
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `${name} is ${wide} px too wide at ${width}`);
      // The other two have the same colours, and the same boxes.
      if ((scheme === "light") !== width > 400) continue;
      assert.deepEqual(await faultsOf(), [], `${name}, ${scheme}, ${width}`);
    }
  }
}

test("an erased file is gone at the edge, and the page says so", async () => {
  const { id, url } = await named("cat.jpg");
  await page.emulateMediaFeatures([]);
  await page.setViewport({ width: 1440, height: 900 });
  await open(`#/file/${id}`);
  await press("Erase for ever…");
  await page.waitForSelector("dialog[open]");
  assert.deepEqual(await faultsOf(), []);
  await press("Erase for ever");
  await shows("The edge answers 410 Gone.");
  assert.equal((await view(url)).status, 410);
  await open("#/files");
  assert.equal(await named("cat.jpg"), undefined);
});

test("signing out ends the session", async () => {
  await press("Sign out");
  await shows("Or sign in with a token");
  await page.reload();
  await shows("Or sign in with a token");
  await look("sign-in");
});

test("a token of less scope signs in to less, and a wrong one not at all", async () => {
  await page.type("input[type=password]", "evn_wrong");
  await press("Sign in");
  await shows("This token does not sign in");
  const token = (await net.run("twin", "token", "new", "reader", "--scope", "read")).split("\n").at(-1);
  await page.$eval("input[type=password]", (input) => input.select());
  await page.type("input[type=password]", token);
  await press("Sign in");
  await page.waitForSelector("a.file");
  assert.equal(await page.$(".drop"), null);
  await open(`#/file/${(await named("clip.mp4")).id}`);
  await shows("whole, 1 may be lost");
  assert.equal(await page.$("button.danger"), null);
  await open("#/tokens");
  await shows("Tokens are for admins.");
  await net.run("twin", "token", "rm", "reader");
  await open("#/network");
  await shows("Or sign in with a token");
});

test("nothing came from elsewhere, no script of a name ran, and the policy of the page was never met", () => {
  assert.deepEqual(faults, []);
  const foreign = [...elsewhere].filter((host) => host && !/^([\w-]+\.)?localhost:|^127\.0\.0\.1:/.test(host));
  assert.deepEqual(foreign, []);
});
