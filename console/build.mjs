// Builds dist/: one script, one style sheet, one icon, each with a hash of its content in its name, and the page that
// names them, with hashes that a browser compares. The same sources and the same package-lock.json give the same bytes.
// `--check` builds elsewhere and compares with what is committed.

import { createHash } from "node:crypto";
import { mkdtemp, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const DIST = join(HERE, "dist");
const COMPRESSED_BYTES_MAX = 120_000;

const made = await bundle();
const total = [...made.values()].reduce((sum, bytes) => sum + gzipSync(bytes, { level: 9 }).length, 0);
if (total > COMPRESSED_BYTES_MAX) fail(`${total} bytes compressed; at most ${COMPRESSED_BYTES_MAX}`);
if (process.argv.includes("--check")) await compare();
else await write(DIST);
console.log(`${made.size} files, ${total} bytes compressed`);

/** Returns the files by name. */
async function bundle() {
  const out = await mkdtemp(join(tmpdir(), "console-"));
  const { metafile, outputFiles } = await build({
    absWorkingDir: HERE,
    entryPoints: { main: "src/main.tsx" },
    outdir: out,
    entryNames: "[name]-[hash]",
    bundle: true,
    minify: true,
    write: false,
    metafile: true,
    format: "esm",
    target: ["chrome111", "firefox115", "safari16.4"],
    jsx: "automatic",
    jsxImportSource: "preact",
    legalComments: "none",
    define: { "process.env.NODE_ENV": '"production"' },
  });
  await rm(out, { recursive: true });
  const files = new Map(outputFiles.map((file) => [basename(file.path), Buffer.from(file.contents)]));
  const icon = await readFile(join(HERE, "src/icon.svg"));
  const iconName = `icon-${createHash("sha256").update(icon).digest("hex").slice(0, 8)}.svg`;
  files.set(iconName, icon);
  const named = (ending) => [...files.keys()].find((name) => name.endsWith(ending)) ?? fail(`no ${ending} was made`);
  const integrity = (name) => `sha384-${createHash("sha384").update(files.get(name)).digest("base64")}`;
  const page = (await readFile(join(HERE, "src/index.html"), "utf8"))
    .replace("ICON", iconName)
    .replace("STYLE-HASH", integrity(named(".css")))
    .replace("SCRIPT-HASH", integrity(named(".js")))
    .replace("STYLE", named(".css"))
    .replace("SCRIPT", named(".js"));
  files.set("index.html", Buffer.from(page));
  files.set("licences.txt", Buffer.from(await licences(Object.keys(metafile.inputs))));
  return files;
}

/** Returns the licence texts of all packages that have a file in the bundle. */
async function licences(inputs) {
  const roots = inputs.map((input) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input)?.[0]).filter(Boolean);
  const texts = [...new Set(roots)].sort().map(async (root) => {
    const { name, version, license } = JSON.parse(await readFile(join(HERE, root, "package.json"), "utf8"));
    const file = (await readdir(join(HERE, root))).find((it) => /^licen[cs]e/i.test(it));
    const text = file ? await readFile(join(HERE, root, file), "utf8") : `Licence: ${license}\n`;
    return `${name} ${version} (${license})\n\n${text.trim()}\n`;
  });
  return `Packages in the console's script, and their licences.\n\n${(await Promise.all(texts)).join("\n---\n\n")}`;
}

async function write(folder) {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder);
  for (const [name, bytes] of made) await writeFile(join(folder, name), bytes);
}

async function compare() {
  const committed = (await readdir(DIST)).sort();
  const names = [...made.keys()].sort();
  if (committed.join() !== names.join()) fail(`dist/ has ${committed}, the sources make ${names}; run npm run build`);
  for (const [name, bytes] of made) {
    if (!bytes.equals(await readFile(join(DIST, name)))) fail(`dist/${name} differs from what the sources make`);
  }
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
