// Where the shards of a file lie, and how it stands with each.

import { FaultBox, NotOffered } from "../parts/fault.tsx";
import { path } from "../file.ts";
import { count, minute, placed, visible } from "../shown.ts";
import { useLoaded } from "../use.ts";

interface Column {
  column: number;
  node: string | null;
  place: string | null;
  state: string;
}

interface Health {
  state: string;
  columns: Column[];
  data: number | null;
  parity: number | null;
  /** How many more may be lost; null for what lies inside its record. */
  margin: number | null;
  /** Why a repair is wanted. */
  repair?: string | null;
  /** Objects of a folder, and those that were asked about: the one shown may lose the fewest. */
  objects?: number;
  checked?: number;
  checkedAt?: string | null;
}

const TONES: Record<string, string> = {
  whole: "good",
  healthy: "good",
  moving: "warn",
  degraded: "warn",
  unreachable: "warn",
  "in danger": "bad",
  lost: "bad",
  missing: "bad",
  damaged: "bad",
};

export function HealthCard({ id }: { id: string }) {
  const { value: health, fault, isLoading, reload } = useLoaded<Health>(`${path(id)}/health`);
  return (
    <section class="card" aria-label="Where it lies" aria-busy={isLoading}>
      <header class="bar-head">
        <h2>Where it lies</h2>
        {health && <span class={TONES[health.state] ?? "dim"}>{summary(health)}</span>}
        {health && (
          <button type="button" class="plain" disabled={isLoading} onClick={reload}>
            Ask again
          </button>
        )}
      </header>
      {fault?.isUnknownRoute ? <NotOffered what="The health of a file" /> : <FaultBox fault={fault} again={reload} />}
      {!health && !fault && (
        <p class="dim" role="status">
          Asking the nodes…
        </p>
      )}
      {health && <Shards health={health} />}
      {health?.repair && <p class="warn">A repair is wanted ({visible(health.repair)}); it is made by itself.</p>}
      {health && (health.objects ?? 1) > 1 && (
        <p class="dim">
          Of {count(health.objects ?? 1, "object")} in the folder, {health.checked} were asked about; this one may lose
          the fewest.
        </p>
      )}
      {health?.checkedAt && <p class="dim">Asked {minute(health.checkedAt)}.</p>}
    </section>
  );
}

function summary({ state, margin, columns }: Health): string {
  if (columns.length === 0 || margin === null) return state;
  if (margin < 0) return `${state}, ${-margin} too few are up`;
  return `${state}, ${margin === 0 ? "none" : margin} may be lost`;
}

/** Shards by the place that they lie in: what one fire takes away together stands together. */
function Shards({ health: { columns, data } }: { health: Health }) {
  if (columns.length === 0) return <p>It is small enough to lie inside its record, which several origins hold.</p>;
  const places = new Map<string, Column[]>();
  for (const it of columns) places.set(it.place ?? "", [...(places.get(it.place ?? "") ?? []), it]);
  return (
    <ul class="places">
      {[...places].map(([place, all]) => (
        <li key={place}>
          <span class="place">{place ? placed(place) : "place not known"}</span>
          <ul class="shards">
            {all.map((it) => (
              <li key={it.column} class={TONES[it.state] ?? "dim"}>
                <b>{it.column}</b>
                <span>
                  {it.node ? visible(it.node) : "nowhere"}
                  <small>
                    {kind(it.column, data)}
                    {it.state}
                  </small>
                </span>
              </li>
            ))}
          </ul>
        </li>
      ))}
    </ul>
  );
}

function kind(column: number, data: number | null): string {
  return data === null ? "" : column < data ? "data, " : "parity, ";
}
