// Stable names: links that stay while what they lead to changes.

import { useState } from "preact/hooks";
import { call } from "../api.ts";
import { say } from "../notice.ts";
import { CopyBox } from "../parts/copy.tsx";
import { Confirm } from "../parts/dialog.tsx";
import { Empty, FaultBox, Loading, NotOffered } from "../parts/fault.tsx";
import { Field } from "../parts/field.tsx";
import { Name } from "../parts/name.tsx";
import { Page } from "../parts/page.tsx";
import { link } from "../route.ts";
import { isAdmin, mayWrite } from "../session.ts";
import { brief, duration, minute, visible } from "../shown.ts";
import { useLoaded, useWork } from "../use.ts";

/** What a name stands for; of what the server does not list, it knows less. */
interface Target {
  id: string | null;
  label: string | null;
  path?: string | null;
  at?: string;
}

interface StableName {
  name: string;
  label: string;
  url: string;
  target: Target | null;
  freshUntil?: string | null;
  seconds?: number | null;
  state?: string;
  version?: number;
  history?: Target[];
}

const path = (name: string) => `/names/${encodeURIComponent(name)}`;

/** `target` is the id of a file that a name shall point to. */
export function NamesPage({ target }: { target: string }) {
  const { value: names, fault, reload } = useLoaded<StableName[]>("/names");
  const [pointing, setPointing] = useState("");
  const [removing, setRemoving] = useState<StableName | null>(null);
  const isMissing = fault !== null && (fault.isUnknownRoute || fault.status === 400);
  return (
    <Page title="Names" line="A name's link stays. What it leads to, you change at any time.">
      {isMissing ? (
        <NotOffered what="The list of stable names">
          <code>evernear name ls</code> shows it.
        </NotOffered>
      ) : (
        <>
          {mayWrite() && <Point key={pointing} name={pointing} target={target} done={reload} />}
          <FaultBox fault={fault} again={reload} />
          {!names && !fault && <Loading />}
          {names?.length === 0 && <Empty>There is no name yet. Point one to a file.</Empty>}
          <div class="stack">
            {names?.map((it) => (
              <One
                key={it.name}
                name={it}
                point={() => setPointing(it.name)}
                remove={() => setRemoving(it)}
                done={reload}
              />
            ))}
          </div>
        </>
      )}
      {removing && (
        <Remove name={removing} close={() => setRemoving(null)} done={() => (setRemoving(null), reload())} />
      )}
    </Page>
  );
}

function One({
  name,
  point,
  remove,
  done,
}: {
  name: StableName;
  point: () => void;
  remove: () => void;
  done: () => void;
}) {
  return (
    <section class="card" aria-label={visible(name.name)}>
      <header class="bar-head">
        <h2>
          <Name of={name.name} />
        </h2>
        {name.state && <span class={name.state === "ended" ? "chip bad" : "chip"}>{visible(name.state)}</span>}
        {mayWrite() && (
          <span class="actions">
            <Renew name={name.name} done={done} />
            <button type="button" aria-label={`Point ${visible(name.name)} to another file`} onClick={point}>
              Point…
            </button>
            {isAdmin() && (
              <button type="button" class="danger" aria-label={`Remove ${visible(name.name)}`} onClick={remove}>
                Remove…
              </button>
            )}
          </span>
        )}
      </header>
      <CopyBox text={name.url} what={`link of ${visible(name.name)}`} />
      <p>
        Leads to <To target={name.target} />
        {name.seconds != null && <span class="dim">, kept by viewers {duration(name.seconds)}</span>}
        {name.freshUntil && <span class="dim">, signed until {minute(name.freshUntil)}</span>}
      </p>
      {!!name.history?.length && (
        <details>
          <summary>History</summary>
          <ol class="history">
            {name.history.map((it, index) => (
              <li key={index}>
                {it.at && (
                  <time dateTime={it.at} class="dim">
                    {minute(it.at)}
                  </time>
                )}{" "}
                <To target={it} />
              </li>
            ))}
          </ol>
        </details>
      )}
    </section>
  );
}

function To({ target }: { target: Target | null }) {
  if (!target) return <span>nothing</span>;
  const { id, label, path } = target;
  const words = path ? (
    <Name of={path} />
  ) : label ? (
    <code>{brief(visible(label))}</code>
  ) : (
    <span>what is not listed here</span>
  );
  return id ? <a href={link("file", id)}>{words}</a> : words;
}

/** Signs for longer what the name stands for. */
function Renew({ name, done }: { name: string; done: () => void }) {
  const work = useWork();
  const renew = () =>
    void work.run(async () => {
      await call(path(name), { method: "PUT", json: {} });
      say(`Renewed: ${visible(name)}.`);
      done();
    });
  return (
    <>
      <button type="button" disabled={work.isBusy} aria-label={`Renew ${visible(name)}`} onClick={renew}>
        {work.isBusy ? "Renewing…" : "Renew"}
      </button>
      <FaultBox fault={work.fault} />
    </>
  );
}

function Point({ name, target, done }: { name: string; target: string; done: () => void }) {
  const work = useWork();
  const [form, setForm] = useState({ name, to: target, freshUntil: "", seconds: "" });
  const text = (field: keyof typeof form) => ({
    value: form[field],
    onInput: (event: { currentTarget: { value: string } }) => setForm({ ...form, [field]: event.currentTarget.value }),
  });
  const submit = async (event: Event) => {
    event.preventDefault();
    const [to, freshUntil, seconds] = [form.to.trim(), form.freshUntil.trim(), form.seconds.trim()];
    const body = {
      ...(/^[0-9a-f]{64}$/.test(to) ? { file: to } : { label: labelOf(to) }),
      ...(freshUntil && { freshUntil }),
      ...(seconds && { seconds: Number(seconds) }),
    };
    const went = await work.run(() => call(path(form.name.trim()), { method: "PUT", json: body }));
    if (!went) return;
    say(`${visible(form.name.trim())} leads there now.`);
    setForm({ name: "", to: "", freshUntil: "", seconds: "" });
    if (target) history.replaceState(null, "", link("names"));
    done();
  };
  return (
    <form class="card" onSubmit={(event) => void submit(event)}>
      <h2>Point a name</h2>
      <div class="fields">
        <Field label="Name" help="A new one is made; it is for you, not in the link.">
          {(ids) => (
            <input {...ids} {...text("name")} required autocomplete="off" autofocus={name !== "" || target !== ""} />
          )}
        </Field>
        <Field label="To" help="A link, a label, or the id of a file.">
          {(ids) => <input {...ids} {...text("to")} required autocomplete="off" spellcheck={false} />}
        </Field>
        <Field label="Signed until" help="Past it nobody follows the name.">
          {(ids) => <input {...ids} {...text("freshUntil")} autocomplete="off" placeholder="as usual" />}
        </Field>
        <Field label="Kept by viewers, seconds" help="A change shows after at most so long.">
          {(ids) => (
            <input
              {...ids}
              {...text("seconds")}
              inputMode="numeric"
              pattern="[0-9]*"
              autocomplete="off"
              placeholder="as usual"
            />
          )}
        </Field>
      </div>
      <FaultBox fault={work.fault} />
      <p class="actions">
        <button class="main" disabled={work.isBusy}>
          {work.isBusy ? "Pointing…" : "Point"}
        </button>
      </p>
    </form>
  );
}

/** Returns the label of a link, or the text itself. */
export function labelOf(text: string): string {
  return /^[a-z]+:\/\/([^./:]+)/i.exec(text)?.[1] ?? text;
}

function Remove({ name, close, done }: { name: StableName; close: () => void; done: () => void }) {
  const work = useWork();
  const act = () => void work.run(async () => (await call(path(name.name), { method: "DELETE" }), done()));
  return (
    <Confirm title="Remove this name?" yes="Remove for ever" work={work} act={act} close={close}>
      <p>
        <Name of={name.name} />
      </p>
      <p class="dim">Its link leads nowhere from then on, and never again. The files stay.</p>
    </Confirm>
  );
}
