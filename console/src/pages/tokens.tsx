// Tokens: what programs show to use this server. One is shown once, when it is made.

import { useState } from "preact/hooks";
import { call } from "../api.ts";
import { say } from "../notice.ts";
import { CopyBox } from "../parts/copy.tsx";
import { Confirm, Dialog } from "../parts/dialog.tsx";
import { Empty, FaultBox, Loading, NotOffered } from "../parts/fault.tsx";
import { Field } from "../parts/field.tsx";
import { Name } from "../parts/name.tsx";
import { Page } from "../parts/page.tsx";
import { isAdmin, session } from "../session.ts";
import { bytes, day, minute, visible } from "../shown.ts";
import { useLoaded, useWork } from "../use.ts";
import { Changes } from "./changes.tsx";

interface Token {
  name: string;
  id: string;
  scope: string;
  expires: string | null;
  quota: number | null;
  used?: number | null;
  rate?: number | null;
  created?: string | null;
}

const EMPTY = { name: "", scope: "write", expires: "", quota: "", rate: "" };

export function TokensPage() {
  const { value: tokens, fault, reload } = useLoaded<Token[]>(isAdmin() ? "/tokens" : null);
  const [ending, setEnding] = useState<Token | null>(null);
  const isMissing = fault !== null && (fault.isUnknownRoute || fault.status === 400);
  return (
    <Page title="Tokens" line="Programs store and list files with a token, without the owner's key.">
      {!isAdmin() && (
        <Empty>
          Tokens are for admins. Sign in with the link that <code>evernear twin console</code> prints.
        </Empty>
      )}
      {isMissing && (
        <NotOffered what="The list of tokens">
          <code>evernear twin token ls</code> shows it.
        </NotOffered>
      )}
      {isAdmin() && !isMissing && (
        <>
          <Make made={reload} />
          <section class="card" aria-label="Tokens">
            <FaultBox fault={fault} again={reload} />
            {!tokens && !fault && <Loading />}
            {tokens?.length === 0 && <Empty>There is no token yet.</Empty>}
            {!!tokens?.length && <List tokens={tokens} end={setEnding} />}
          </section>
          {tokens && <Changes names={new Map(tokens.map(({ id, name }) => [id, name]))} />}
        </>
      )}
      {ending && <End token={ending} close={() => setEnding(null)} done={() => (setEnding(null), reload())} />}
    </Page>
  );
}

function List({ tokens, end }: { tokens: Token[]; end: (token: Token) => void }) {
  return (
    <table>
      <thead>
        <tr>
          <th scope="col">Name</th>
          <th scope="col" class="wide">
            Ends
          </th>
          <th scope="col">Stored</th>
          <th scope="col" class="wide">
            Made
          </th>
          <th scope="col">
            <span class="offscreen">End</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {tokens.map((token) => (
          <tr key={token.id}>
            <th scope="row">
              <Name of={token.name} /> <span class="chip">{token.scope}</span>
            </th>
            <td class="wide">{token.expires ? day(token.expires) : "never"}</td>
            <td>
              {stored(token)}
              {token.rate != null && <small class="dim">{token.rate} requests/s</small>}
            </td>
            <td class="wide">{token.created ? minute(token.created) : "–"}</td>
            <td class="number">
              <button
                type="button"
                class="danger"
                aria-label={`Revoke: ${visible(token.name)}`}
                onClick={() => end(token)}
              >
                Revoke…
              </button>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function stored({ used, quota }: Token): string {
  if (quota != null) return `${used == null ? "" : `${bytes(used)} of `}${bytes(quota)}`;
  return used == null ? "no quota" : bytes(used);
}

function Make({ made }: { made: () => void }) {
  const work = useWork();
  const [form, setForm] = useState(EMPTY);
  const [token, setToken] = useState("");
  const text = (field: keyof typeof form) => ({
    value: form[field],
    onInput: (event: { currentTarget: { value: string } }) => setForm({ ...form, [field]: event.currentTarget.value }),
  });
  const submit = async (event: Event) => {
    event.preventDefault();
    await work.run(async () => {
      const [expires, quota, rate] = [form.expires.trim(), form.quota.trim(), form.rate.trim()];
      const json = {
        name: form.name.trim(),
        scope: form.scope,
        ...(expires && { expires }),
        ...(quota && { quota: quotaOf(quota) }),
        ...(rate && { rate: Number(rate) }),
      };
      const { value } = await call<{ token: string }>("/tokens", { method: "POST", json });
      setToken(value.token);
      setForm(EMPTY);
      made();
    });
  };
  return (
    <form class="card" onSubmit={(event) => void submit(event)}>
      <h2>Make a token</h2>
      <div class="fields">
        <Field label="Name" help="What it is called in this list.">
          {(ids) => <input {...ids} {...text("name")} required autocomplete="off" />}
        </Field>
        <Field
          label="Scope"
          help="read: lists. write: stores, erases and points names too. admin: policies, tokens and the audit log too."
        >
          {(ids) => (
            <select {...ids} {...text("scope")}>
              {["read", "write", "admin"].map((scope) => (
                <option key={scope}>{scope}</option>
              ))}
            </select>
          )}
        </Field>
        <Field label="Ends" help="2027-01-31, +90d or never.">
          {(ids) => <input {...ids} {...text("expires")} placeholder="never" autocomplete="off" />}
        </Field>
        <Field label="Quota" help="What it may have stored at once: 500 MB, 2 TB.">
          {(ids) => (
            <input
              {...ids}
              {...text("quota")}
              placeholder="no bound"
              autocomplete="off"
              pattern={QUOTA.source.slice(1, -1)}
              title="A number with B, kB, MB, GB or TB"
            />
          )}
        </Field>
        <Field label="Requests a second">
          {(ids) => (
            <input
              {...ids}
              {...text("rate")}
              inputMode="numeric"
              pattern="[1-9][0-9]*"
              placeholder="as usual"
              autocomplete="off"
            />
          )}
        </Field>
      </div>
      <FaultBox fault={work.fault} />
      <p class="actions">
        <button class="main" disabled={work.isBusy}>
          {work.isBusy ? "Making…" : "Make"}
        </button>
      </p>
      {token && (
        <Dialog title="The new token" close={() => setToken("")}>
          <p>It is shown this once: the server keeps a hash of it only.</p>
          <CopyBox text={token} what="token" main />
          <p class="actions end">
            <button type="button" onClick={() => setToken("")}>
              I have copied it
            </button>
          </p>
        </Dialog>
      )}
    </form>
  );
}

const QUOTA = /^\s*([0-9]+(?:\.[0-9]+)?)\s*([kKMGT]?)B?\s*$/;
const POWERS: Record<string, number> = { "": 0, k: 1, K: 1, M: 2, G: 3, T: 4 };

/** Returns the bytes that a text like "500 MB" names. */
export function quotaOf(text: string): number {
  const [, number = "", unit = ""] = QUOTA.exec(text) ?? [];
  return Math.round(Number(number) * 1000 ** (POWERS[unit] ?? 0));
}

function End({ token, close, done }: { token: Token; close: () => void; done: () => void }) {
  const work = useWork();
  const act = () =>
    void work.run(async () => {
      await call(`/tokens/${encodeURIComponent(token.id)}`, { method: "DELETE" });
      say(`Revoked: ${visible(token.name)}.`);
      done();
    });
  return (
    <Confirm title="Revoke this token?" yes="Revoke" work={work} act={act} close={close}>
      <p>
        <Name of={token.name} />
      </p>
      <p class="dim">
        Programs that use it are refused from now on, and those of tokens that it made. What they stored stays.
      </p>
      {token.name === session.value?.token && <p class="bad">This page uses it too: you will be signed out.</p>}
    </Confirm>
  );
}
