// What was changed, by which token, and what came of it: the audit log, the newest first.

import { useState } from "preact/hooks";
import { Empty, FaultBox } from "../parts/fault.tsx";
import { link } from "../route.ts";
import { bytes, minute, visible } from "../shown.ts";
import { useLoaded } from "../use.ts";

interface Line {
  number: number;
  at_ms: number;
  /** The id of the token. */
  token: string;
  /** Method and route. */
  action: string;
  /** The file that it was about. */
  id: string | null;
  /** The name of the token or the policy that it was about. */
  about?: string | null;
  status: number;
  bytes: number;
}

const LINES = 50;

/** `names` are the names of tokens by their ids; one that was revoked has none. */
export function Changes({ names }: { names: Map<string, string> }) {
  const [before, setBefore] = useState<number | null>(null);
  const { value: lines, fault, isLoading, reload } = useLoaded<Line[]>(path(before));
  const last = lines?.at(-1)?.number;
  return (
    <section class="card" aria-label="What was changed" aria-busy={isLoading}>
      <header class="bar-head">
        <h2>What was changed</h2>
        <span class="actions">
          <button type="button" disabled={before === null} onClick={() => setBefore(null)}>
            Newest
          </button>
          <button
            type="button"
            disabled={last === undefined || (lines?.length ?? 0) < LINES}
            onClick={() => setBefore(last ?? null)}
          >
            Older
          </button>
        </span>
      </header>
      <FaultBox fault={fault} again={reload} />
      {lines?.length === 0 && <Empty>Nothing yet.</Empty>}
      {!!lines?.length && (
        <table>
          <thead>
            <tr>
              <th scope="col">When</th>
              <th scope="col">Token</th>
              <th scope="col">Request</th>
              <th scope="col" class="number wide">
                Size
              </th>
              <th scope="col" class="number">
                Answer
              </th>
            </tr>
          </thead>
          <tbody>
            {lines.map((line) => (
              <Row key={line.number} line={line} name={names.get(line.token)} />
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}

function Row({ line, name }: { line: Line; name: string | undefined }) {
  const at = new Date(line.at_ms).toISOString();
  return (
    <tr>
      <td>
        <time dateTime={at}>{minute(at)}</time>
      </td>
      <td>{name === undefined ? <span class="dim">revoked</span> : visible(name)}</td>
      <td>
        <code>{visible(line.action)}</code> {line.id && isThere(line) && <a href={link("file", line.id)}>file</a>}
        {line.about && <b>{visible(line.about)}</b>}
      </td>
      <td class="number wide">{line.bytes > 0 ? bytes(line.bytes) : "–"}</td>
      <td class={line.status < 400 ? "number" : "number bad"}>{line.status}</td>
    </tr>
  );
}

/** Names have ids too, but no page of a file; what was erased has none any more. */
function isThere({ action, status }: Line): boolean {
  return status < 400 && /^(PUT|POST|PATCH) \/(files|tus|upload)/.test(action);
}

function path(before: number | null): string {
  return `/audit?limit=${LINES}${before === null ? "" : `&before=${before}`}`;
}
