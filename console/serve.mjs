// Shows the pages of dist/ before a program is built with them: `node serve.mjs http://127.0.0.1:8081` serves them with
// the header fields that this twin gives its own pages, and hands all else to it.

import { readFile } from "node:fs/promises";
import { createServer, request } from "node:http";
import { argv } from "node:process";
import { fileURLToPath } from "node:url";

const TYPES = {
  html: "text/html; charset=utf-8",
  js: "text/javascript",
  css: "text/css",
  svg: "image/svg+xml",
  txt: "text/plain",
};
const OF_BODY = ["content-length", "content-encoding", "content-type", "transfer-encoding", "cache-control", "etag"];

/** Returns a server that listens on a free port of this machine, or on the given one. */
export function serve(twin, port = 0) {
  const server = createServer(async (asked, answer) => {
    const { pathname } = new URL(asked.url, twin);
    const name = /^\/console\/([\w.-]*)$/.exec(pathname)?.[1];
    const file = name === "session" ? null : name || (name === "" ? "index.html" : null);
    const bytes = file && (await readFile(new URL(`dist/${file}`, import.meta.url)).catch(() => null));
    if (!bytes) return hand(twin, asked, answer);
    const { headers } = await fetch(new URL("/console/", twin));
    const kept = [...headers].filter(([field]) => !OF_BODY.includes(field));
    answer.writeHead(200, {
      ...Object.fromEntries(kept),
      "content-type": TYPES[file.split(".").at(-1)],
      "cache-control": "no-store",
    });
    answer.end(bytes);
  });
  return new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve(server)));
}

function hand(twin, asked, answer) {
  const { hostname, port } = new URL(twin);
  const to = request({ hostname, port, path: asked.url, method: asked.method, headers: asked.headers });
  to.on("response", (from) => {
    answer.writeHead(from.statusCode, from.headers);
    from.pipe(answer);
  });
  to.on("error", () => answer.destroy());
  answer.on("close", () => to.destroy());
  asked.pipe(to);
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  const server = await serve(argv[2] ?? "http://127.0.0.1:8081", 8090);
  console.log(`http://127.0.0.1:${server.address().port}/console/`);
}
