// Loads a module of src/ as the browser gets it.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

export async function load(path) {
  const folder = await mkdtemp(join(tmpdir(), "console-"));
  const outfile = join(folder, "module.mjs");
  const entry = fileURLToPath(new URL(`../src/${path}`, import.meta.url));
  await build({
    entryPoints: [entry],
    outfile,
    bundle: true,
    format: "esm",
    jsx: "automatic",
    jsxImportSource: "preact",
  });
  try {
    return await import(pathToFileURL(outfile).href);
  } finally {
    await rm(folder, { recursive: true });
  }
}
