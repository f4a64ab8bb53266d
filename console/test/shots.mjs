// Draws every page of the console of a small network for the documentation: `npm run shots` writes docs/console/.

import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import puppeteer from "puppeteer-core";
import sharp from "sharp";
import { drop } from "./drop.mjs";
import { network, sample } from "./network.mjs";

const OUT = fileURLToPath(new URL("../../docs/console/", import.meta.url));
const SIZES = [
  [1440, 900],
  [360, 740],
];
const SCHEMES = ["light", "dark"];
const BYTES_MAX = 100_000;
const POLICY = `[[link]]
use = "geo"
receive-allow = ["eu", "NO", "CH"]
status = 451

[[link]]
use = "ttl"
ttl = 86400
ttl-image = 604800
`;

const net = await network();
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
try {
  await mkdir(OUT, { recursive: true });
  const page = await browser.newPage();
  const link = await net.link();
  const base = link.split("#")[0];
  await page.goto(base);
  await shoot(page, "sign-in");
  await page.goto(link);
  const shows = (words) => page.waitForFunction((it) => document.body.innerText.includes(it), { polling: 100 }, words);
  await shows("Nothing is stored yet.");
  await drop(page, [sample("site"), sample("clip.mp4"), sample("cat.jpg")]);
  await shows("3 of 3 stored");
  const ask = (method, path, json) =>
    page.evaluate(
      async (method, path, body, type) => {
        const headers = { "x-evernear-console": localStorage.getItem("evernear-console") ?? "1", "content-type": type };
        const answer = await fetch(path, { method, body, headers });
        const said = await answer.json();
        if (!said.ok) throw new Error(said.error.message);
        return said.value;
      },
      method,
      path,
      typeof json === "string" ? json : json && JSON.stringify(json),
      typeof json === "string" ? "application/toml" : "application/json",
    );
  const [cat, clip, site] = await Promise.all(
    ["cat.jpg", "clip.mp4", "site"].map((name) => ask("GET", `/files?name=${name}`).then(([it]) => it)),
  );
  for (const name of ["eu-only", "eu-images"]) await ask("PUT", `/policies/${name}`, POLICY);
  await ask("PATCH", `/files/${clip.id}`, { expires: "+365d", sooner: true });
  await ask("PUT", "/names/picture-of-the-day", { file: clip.id });
  await ask("PUT", "/names/picture-of-the-day", { file: cat.id });
  await ask("PUT", "/names/studio", { file: site.id, seconds: 60 });
  for (const token of [
    { name: "laptop", scope: "write", quota: 50_000_000_000 },
    { name: "ci", scope: "read", expires: "+90d", rate: 10 },
  ]) {
    await ask("POST", "/tokens", token);
  }
  const pages = {
    files: "#/files",
    file: `#/file/${cat.id}`,
    film: `#/file/${clip.id}`,
    names: "#/names",
    policies: "#/policies/eu-only",
    network: "#/network",
    tokens: "#/tokens",
  };
  for (const [name, fragment] of Object.entries(pages)) {
    await page.goto(base + fragment);
    await page.reload();
    await page.waitForFunction(settled, { polling: 100 });
    // Two more answers, for the plots.
    if (name === "network") await new Promise((resolve) => setTimeout(resolve, 11_000));
    if (name === "names") await page.$eval("details", (it) => (it.open = true));
    await shoot(page, name);
  }
  await page.goto(`${base}#/files`);
  await page.reload();
  await page.waitForFunction(settled, { polling: 100 });
  await uploads(page);
} finally {
  await browser.close();
  await net.stop();
}

/** Draws uploads on a slow line: under way, paused, waiting, and a folder. */
async function uploads(page) {
  const folder = await mkdtemp(join(tmpdir(), "console-shots-"));
  try {
    const sizes = {
      "harbour.mov": 90_000_000,
      "interviews.zip": 60_000_000,
      "map.tif": 30_000_000,
      "archive.tar": 20_000_000,
    };
    const paths = [];
    for (const [name, size] of Object.entries(sizes)) {
      paths.push(join(folder, name));
      await writeFile(paths.at(-1), Buffer.alloc(size, name));
    }
    await page.setViewport({ width: 1440, height: 900 });
    const client = await page.createCDPSession();
    await client.send("Network.enable");
    await client.send("Network.emulateNetworkConditions", {
      offline: false,
      latency: 0,
      downloadThroughput: -1,
      uploadThroughput: 2_000_000,
    });
    await drop(page, [...paths, sample("site")]);
    await page.waitForFunction(() => [...document.querySelectorAll("progress")].some((it) => it.value >= 3), {
      polling: 100,
    });
    await page.click('[aria-label="Pause: interviews.zip"]');
    await page.mouse.move(5, 5);
    await new Promise((resolve) => setTimeout(resolve, 2500));
    await shoot(page, "uploads");
    await page.goto("about:blank");
  } finally {
    await rm(folder, { recursive: true });
  }
}

function settled() {
  return (
    document.querySelector("main .card") !== null &&
    !/Loading…|Asking the nodes/.test(document.body.innerText) &&
    [...document.images].every((it) => it.complete) &&
    [...document.querySelectorAll("video")].every((it) => it.readyState >= 2)
  );
}

async function shoot(page, name) {
  for (const scheme of SCHEMES) {
    for (const [width, height] of SIZES) {
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      await page.setViewport({ width, height });
      await new Promise((resolve) => setTimeout(resolve, 300));
      const drawn = await sharp(await page.screenshot())
        .webp({ quality: 82, effort: 6 })
        .toBuffer();
      if (drawn.length > BYTES_MAX) throw new Error(`${name} has ${drawn.length} bytes; at most ${BYTES_MAX}`);
      await writeFile(`${OUT}${name}-${scheme}-${width}.webp`, drawn);
    }
  }
}
