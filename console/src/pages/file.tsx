// One file or folder: how it looks, its link, where it lies, who may read it, until when.

import { useState } from "preact/hooks";
import { call, Fault } from "../api.ts";
import { path, type StoredFile } from "../file.ts";
import { say } from "../notice.ts";
import { CopyBox } from "../parts/copy.tsx";
import { FaultBox, Loading } from "../parts/fault.tsx";
import { Field } from "../parts/field.tsx";
import { Page } from "../parts/page.tsx";
import { Qr } from "../parts/qr.tsx";
import { link } from "../route.ts";
import { isAdmin, mayWrite, session } from "../session.ts";
import { attribute, bytes, count, day, minute, visible } from "../shown.ts";
import { useLoaded, useWork } from "../use.ts";
import { Erase } from "./erase.tsx";
import { Gone } from "./gone.tsx";
import { HealthCard } from "./health.tsx";
import { Preview } from "./preview.tsx";

export function FilePage({ id }: { id: string }) {
  const { value: file, fault, reload, set } = useLoaded<StoredFile>(path(id));
  const [isErased, setErased] = useState(false);
  const [isErasing, setErasing] = useState(false);
  if (!file) {
    return (
      <Page title="File" line={<a href={link("files")}>All files</a>}>
        {fault ? <FaultBox fault={fault} again={reload} /> : <Loading />}
      </Page>
    );
  }
  if (isErased) return <Gone file={file} />;
  const objects = file.kind === "folder" ? `, ${count(file.objects, "object")}` : "";
  return (
    <Page
      title={file.name}
      line={
        <>
          <a href={link("files")}>Files</a> · {bytes(file.size)}
          {objects} · stored{" "}
          <time dateTime={file.created} title={minute(file.created)}>
            {day(file.created)}
          </time>
        </>
      }
    >
      <div class="split">
        <section class="card" aria-label="Preview and link">
          <Preview file={file} />
          <h2>Link</h2>
          <CopyBox text={file.url} what="link" main />
          <h2>Embed</h2>
          <CopyBox text={snippet(file)} what="HTML to embed" />
          <details>
            <summary>QR code</summary>
            <Qr text={file.url} />
          </details>
          <p class="actions">
            <a class="button" href={file.url} target="_blank" rel="noopener noreferrer">
              Open in a new tab
            </a>
            {mayWrite() && <Purge file={file} />}
            {mayWrite() && (
              <a class="button" href={link("names", file.id)}>
                Point a name here…
              </a>
            )}
            {mayWrite() && (
              <button type="button" class="danger" onClick={() => setErasing(true)}>
                Erase for ever…
              </button>
            )}
          </p>
        </section>
        <div class="stack">
          <HealthCard id={id} />
          <Reading file={file} set={set} />
          <Lease file={file} set={set} />
          <Facts file={file} />
        </div>
      </div>
      {isErasing && (
        <Erase file={file} close={() => setErasing(false)} erased={() => (setErasing(false), setErased(true))} />
      )}
    </Page>
  );
}

/** Returns the HTML that shows a file in a page. */
export function snippet({ kind, type, url, name }: StoredFile): string {
  const [src, alt] = [attribute(url), attribute(visible(name))];
  const main = kind === "file" ? type.split("/")[0] : "";
  if (main === "image") return `<img src="${src}" alt="${alt}">`;
  if (main === "video") return `<video src="${src}" controls preload="metadata"></video>`;
  if (main === "audio") return `<audio src="${src}" controls preload="metadata"></audio>`;
  return `<a href="${src}">${alt}</a>`;
}

function Purge({ file }: { file: StoredFile }) {
  const work = useWork();
  const purge = () =>
    void work.run(async () => {
      const { value } = await call<{ missed?: unknown[] }>(`${path(file.id)}/purge`, { method: "POST" });
      const missed = value.missed?.length ?? 0;
      if (missed > 0)
        throw new Fault(-1, `${count(missed, "node")} could not be told. Purge it again when all are up.`);
      say("Edges drop what they hold of it, and fetch it anew when it is asked for.");
    });
  return (
    <>
      <button type="button" disabled={work.isBusy || !!work.fault?.isUnknownRoute} onClick={purge}>
        {work.isBusy ? "Purging…" : "Purge caches"}
      </button>
      {work.fault?.isUnknownRoute ? (
        <small class="dim">Purging is not offered by this server.</small>
      ) : (
        <FaultBox fault={work.fault} />
      )}
    </>
  );
}

type Set = (file: StoredFile) => void;

/** Sends a change of the lease, and shows what the server made of it. */
async function change(file: StoredFile, set: Set, what: Record<string, unknown>): Promise<void> {
  await call(path(file.id), { method: "PATCH", json: what });
  const { value } = await call<StoredFile>(path(file.id));
  set(value);
  say("Changed. Edges take it up within seconds.");
}

function Reading({ file, set }: { file: StoredFile; set: Set }) {
  const work = useWork();
  const [policy, setPolicy] = useState(file.policy);
  const names = [...new Set(["nft-immutable", ...(session.value?.policies ?? []), file.policy])];
  const isOpen = file.policy === "nft-immutable";
  return (
    <section class="card" aria-label="Who may read">
      <h2>Who may read</h2>
      <p>
        {isOpen ? (
          "Everybody who has the link; they may keep it for ever."
        ) : (
          <>
            Whom the policy <a href={link("policies", file.policy)}>{visible(file.policy)}</a> lets, of those who have
            the link.
          </>
        )}
      </p>
      {isAdmin() && (
        <form
          class="inline"
          onSubmit={(event) => (event.preventDefault(), void work.run(() => change(file, set, { policy })))}
        >
          <Field label="Policy">
            {(ids) => (
              <select {...ids} value={policy} onChange={(event) => setPolicy(event.currentTarget.value)}>
                {names.map((name) => (
                  <option key={name} value={name}>
                    {visible(name)}
                  </option>
                ))}
              </select>
            )}
          </Field>
          <button disabled={work.isBusy || policy === file.policy}>{work.isBusy ? "Changing…" : "Change"}</button>
        </form>
      )}
      <FaultBox fault={work.fault} />
    </section>
  );
}

function Lease({ file, set }: { file: StoredFile; set: Set }) {
  const work = useWork();
  const [expires, setExpires] = useState("");
  const [sooner, setSooner] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    if (await work.run(() => change(file, set, { expires: expires.trim(), sooner })))
      (setExpires(""), setSooner(false));
  };
  return (
    <section class="card" aria-label="How long">
      <h2>How long</h2>
      <p>
        {file.expires ? (
          <>
            Until <time dateTime={file.expires}>{minute(file.expires)}</time>; then it is erased.
          </>
        ) : (
          "Until somebody erases it."
        )}
        {file.keep_until && <> Nobody can erase it before {minute(file.keep_until)}.</>}
      </p>
      {mayWrite() && (
        <form onSubmit={(event) => void submit(event)}>
          <div class="inline">
            <Field label="New end" help="2027-01-31, +30d or never">
              {(ids) => (
                <input
                  {...ids}
                  required
                  value={expires}
                  autocomplete="off"
                  placeholder="+365d"
                  onInput={(event) => setExpires(event.currentTarget.value)}
                />
              )}
            </Field>
            <button disabled={work.isBusy}>{work.isBusy ? "Renewing…" : "Renew"}</button>
          </div>
          <label class="check">
            <input type="checkbox" checked={sooner} onChange={(event) => setSooner(event.currentTarget.checked)} />
            It may end sooner than now
          </label>
        </form>
      )}
      <FaultBox fault={work.fault} />
    </section>
  );
}

function Facts({ file }: { file: StoredFile }) {
  const rows: [string, string][] = [
    ["Kind", file.kind === "folder" ? "folder" : file.type || "unknown"],
    ["Redundancy", file.profile],
    ["Places", [...file.places, ...file.at_most].join(", ") || "anywhere"],
    ["Tags", file.tags.join(", ") || "none"],
    ["Id", file.id],
    ...(file.cid ? [["CID", file.cid] as [string, string]] : []),
  ];
  return (
    <section class="card" aria-label="Details">
      <h2>Details</h2>
      <dl>
        {rows.map(([term, value]) => (
          <div key={term}>
            <dt>{term}</dt>
            <dd>{visible(value)}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}
