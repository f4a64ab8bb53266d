// Policies: who may have what, for how long. Written as a text, checked by the server, published to all edges.

import { useEffect, useState } from "preact/hooks";
import { call, Fault } from "../api.ts";
import { say } from "../notice.ts";
import { Dialog } from "../parts/dialog.tsx";
import { Empty, FaultBox, Loading, NotOffered } from "../parts/fault.tsx";
import { Field } from "../parts/field.tsx";
import { Page } from "../parts/page.tsx";
import { link, route } from "../route.ts";
import { isAdmin, mayWrite } from "../session.ts";
import { bytes, minute, visible } from "../shown.ts";
import { asFault, useLoaded, useWork } from "../use.ts";

interface Policy {
  name: string;
  version: number | null;
  freshUntil?: string | null;
  /** fresh, ended, missing: no node has it; unknown: too few nodes answer. */
  state?: string | null;
  /** Whether the server keeps its text. */
  source?: boolean;
}

interface CheckedLink {
  component: string;
  component_bytes: number;
  /** The decisions that it takes part in, and all that it can ask. */
  hooks: string[];
  reads: string[];
}

interface Checked {
  ok: boolean;
  problems: { line: number | null; message: string }[];
  links?: CheckedLink[];
}

/** What is governed by such a policy is not served. */
const BAD = ["ended", "missing"];

const START = `# Who may have it: countries and groups (docs/policy.md).
[[link]]
use = "geo"
receive-allow = ["eu", "NO", "CH"]
status = 451

# For how long a viewer may keep it, in seconds.
[[link]]
use = "ttl"
ttl = 86400
`;

const path = (name: string) => `/policies/${encodeURIComponent(name)}`;

export function PoliciesPage() {
  const { value: all, fault, reload } = useLoaded<Policy[]>("/policies");
  const name = route.value.rest;
  const isMissing = fault !== null && (fault.isUnknownRoute || fault.status === 400);
  return (
    <Page title="Policies" line="A policy decides who may have a file, and for how long. Files name theirs.">
      {isMissing ? (
        <NotOffered what="The list of policies">
          <code>evernear policy publish</code> publishes one.
        </NotOffered>
      ) : (
        <div class="split even">
          <section class="card" aria-label="Published">
            <h2>Published</h2>
            <FaultBox fault={fault} again={reload} />
            {!all && !fault && <Loading />}
            {all?.length === 0 && <Empty>None yet. Files are for everybody who has their link.</Empty>}
            {!!all?.length && <List all={all} here={name} />}
          </section>
          <Editor key={name} name={name} published={reload} />
        </div>
      )}
    </Page>
  );
}

function List({ all, here }: { all: Policy[]; here: string }) {
  return (
    <table>
      <thead>
        <tr>
          <th scope="col">Name</th>
          <th scope="col" class="number wide">
            Version
          </th>
          <th scope="col">Ends</th>
        </tr>
      </thead>
      <tbody>
        {all.map(({ name, version, freshUntil, state }) => (
          <tr key={name}>
            <th scope="row">
              <a href={link("policies", name)} {...(name === here ? { "aria-current": "true" as const } : {})}>
                {visible(name)}
              </a>
              {state && <span class={BAD.includes(state) ? "chip bad" : "chip"}>{visible(state)}</span>}
            </th>
            <td class="number wide">{version ?? "–"}</td>
            <td>{freshUntil ? minute(freshUntil) : "–"}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Editor({ name, published }: { name: string; published: () => void }) {
  const [text, setText] = useState(name ? "" : START);
  const [source, setSource] = useState<"loading" | "there" | "not kept">(name ? "loading" : "there");
  const [title, setTitle] = useState(name);
  const [checked, setChecked] = useState<Checked | null>(null);
  const [isAsking, setAsking] = useState(false);
  const [fault, setFault] = useState<Fault | null>(null);
  const [check, publish] = [useWork(), useWork()];
  useEffect(() => {
    if (!name) return;
    call<{ source: string }>(`${path(name)}/source`).then(
      ({ value }) => (setText(value.source), setSource("there")),
      (error) => (setSource("not kept"), asFault(error).isUnknownRoute || setFault(asFault(error))),
    );
  }, [name]);
  const ask = () =>
    check.run(async () => {
      setChecked(null);
      setChecked((await call<Checked>("/policies/check", { method: "POST", text })).value);
    });
  const send = () =>
    publish.run(async () => {
      await call<Policy>(path(title.trim()), { method: "PUT", text });
      setAsking(false);
      say(`Published: ${visible(title.trim())}. Edges take it up within seconds.`);
      published();
    });
  return (
    <section class="card" aria-label="Editor">
      <h2>{name ? visible(name) : "A new policy"}</h2>
      {source === "not kept" && (
        <p class="dim">The server does not keep the text of this policy. What you write here replaces it.</p>
      )}
      <FaultBox fault={fault} />
      <Field label="Name" help="Files name it: letters, digits and dashes.">
        {(ids) => (
          <input
            {...ids}
            value={title}
            readOnly={name !== ""}
            autocomplete="off"
            spellcheck={false}
            onInput={(event) => setTitle(event.currentTarget.value)}
          />
        )}
      </Field>
      <Field label="Policy file" help="TOML; docs/policy.md has the keys of each ready-made link.">
        {(ids) => (
          <textarea
            {...ids}
            class="code"
            rows={14}
            spellcheck={false}
            value={text}
            disabled={source === "loading"}
            readOnly={!mayWrite()}
            onInput={(event) => (setText(event.currentTarget.value), setChecked(null))}
          />
        )}
      </Field>
      <div aria-live="polite">{checked && <Verdict checked={checked} />}</div>
      {check.fault?.isUnknownRoute ? (
        <NotOffered what="Checking a policy">
          <code>evernear policy check</code> does it.
        </NotOffered>
      ) : (
        <FaultBox fault={check.fault} />
      )}
      {mayWrite() && (
        <p class="actions">
          <button type="button" disabled={check.isBusy} onClick={() => void ask()}>
            {check.isBusy ? "Checking…" : "Check"}
          </button>
          {isAdmin() && (
            <button type="button" class="main" disabled={!title.trim() || !text.trim()} onClick={() => setAsking(true)}>
              Publish…
            </button>
          )}
          {name && (
            <a class="button" href={link("policies")}>
              A new one
            </a>
          )}
        </p>
      )}
      {!isAdmin() && (
        <p class="dim">Admins publish policies: one governs all files that name it, whoever stored them.</p>
      )}
      {isAsking && (
        <Dialog title={`Publish ${visible(title.trim())}?`} close={() => setAsking(false)}>
          <p>
            It counts at every edge within seconds, for all files that name it. A policy that does not pass the check is
            refused.
          </p>
          <FaultBox fault={publish.fault} />
          <p class="actions end">
            <button type="button" autofocus onClick={() => setAsking(false)}>
              Not yet
            </button>
            <button type="button" class="main" disabled={publish.isBusy} onClick={() => void send()}>
              {publish.isBusy ? "Publishing…" : "Publish"}
            </button>
          </p>
        </Dialog>
      )}
    </section>
  );
}

function Verdict({ checked: { ok, problems, links } }: { checked: Checked }) {
  return (
    <>
      {ok && problems.length === 0 && <p class="good">Checked: no fault.</p>}
      <ul class="problems">
        {problems.map(({ line, message }, index) => (
          <li key={index} class={ok ? "warn" : "bad"}>
            {line != null && <b>line {line}: </b>}
            {visible(message)}
          </li>
        ))}
      </ul>
      <ul class="dim">
        {links?.map(({ component, component_bytes, hooks, reads }, index) => (
          <li key={index}>
            <b>{visible(component)}</b>, {bytes(component_bytes)}: decides {hooks.map(visible).join(", ") || "nothing"};
            reads {reads.map(visible).join(", ") || "nothing"}
          </li>
        ))}
      </ul>
    </>
  );
}
