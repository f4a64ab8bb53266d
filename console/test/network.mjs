// A network of its own for the tests: `evernear up`, with its twin, in a folder that goes away with it.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { serve } from "../serve.mjs";

const PROGRAM = process.env.EVERNEAR ?? fileURLToPath(new URL("../../target/debug/evernear", import.meta.url));
const DEADLINE_MS = 90_000;

export async function network() {
  const folder = await mkdtemp(join(tmpdir(), "console-network-"));
  const state = join(folder, "state");
  const [edge, twin] = [await freePort(), await freePort()];
  const run = (...words) =>
    promisify(execFile)(PROGRAM, [...words, "--state", state]).then(({ stdout }) => stdout.trim());
  const children = [];
  const stop = async () => {
    for (const child of children.reverse()) {
      child.kill("SIGTERM");
      if (child.exitCode === null) await once(child, "exit");
    }
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const doors = ["--http", `127.0.0.1:${edge}`, "--dns", "off", "--twin", `127.0.0.1:${twin}`];
    children.push(start(["up", "--state", state, ...doors]));
    await until("the network runs", () => children[0].said.includes("goes on with it"), children[0]);
    await until(
      "the twin answers",
      () => status(`http://127.0.0.1:${twin}/version`).then((it) => it === 200),
      children[0],
    );
    const pages = await serve(`http://127.0.0.1:${twin}`);
    return {
      run,
      /** Ends all connections of the browser; new ones are answered. */
      cut: () => pages.closeAllConnections(),
      link: async () =>
        `http://127.0.0.1:${pages.address().port}/console/#${(await run("twin", "console")).split("#")[1]}`,
      stop: () => (pages.close(), pages.closeAllConnections(), stop()),
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

function start(words) {
  const child = spawn(PROGRAM, words, { stdio: ["ignore", "pipe", "pipe"] });
  child.said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (bytes) => (child.said += bytes));
  return child;
}

/** Waits for a condition, with a deadline; of a program that ended instead, it tells what it said. */
export async function until(what, isTrue, child) {
  const end = Date.now() + DEADLINE_MS;
  for (;;) {
    if (await isTrue()) return;
    if (child && child.exitCode !== null) throw new Error(`${what}: the program ended: ${child.said}`);
    if (Date.now() > end) throw new Error(`${what}: not within ${DEADLINE_MS} ms: ${child?.said ?? ""}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const status = (url) =>
  fetch(url, { redirect: "manual" }).then(
    (it) => it.status,
    () => 0,
  );

/** Fetches a link as a viewer does; its host leads to this machine. */
export async function view(url) {
  const { host, hostname, port, pathname } = new URL(url);
  if (!hostname.endsWith(".localhost")) throw new Error(`${hostname} is not on this machine`);
  const asked = request({ host: "127.0.0.1", port, path: pathname, headers: { host } }).end();
  const [answer] = await once(asked, "response");
  const chunks = [];
  for await (const chunk of answer) chunks.push(chunk);
  return { status: answer.statusCode, headers: answer.headers, body: Buffer.concat(chunks) };
}

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  return port;
}

export const sample = (name) => fileURLToPath(new URL(`../../cluster/samples/${name}`, import.meta.url));
export const bytesOf = (name) => readFile(sample(name));
