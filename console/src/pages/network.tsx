// The nodes: where they are, how they are, what is being repaired; and how that went while this page was open.

import { useEffect, useState } from "preact/hooks";
import { Empty, FaultBox, Loading, NotOffered } from "../parts/fault.tsx";
import { Page } from "../parts/page.tsx";
import { Plot, rates, type Sample } from "../parts/plot.tsx";
import { ago, bytes, count, minute, placed, visible } from "../shown.ts";
import { useLoaded } from "../use.ts";

interface Node {
  name: string;
  kind: string;
  place?: string | null;
  operator?: string | null;
  address?: string | null;
  seen?: string | null;
  state?: string | null;
  bytesUsed?: number | null;
  bytesFree?: number | null;
  /** How busy it is, 0 to 100. */
  load?: number | null;
}

interface Repairs {
  /** Objects that wait, are under repair, were given up, and are only moved to fill nodes alike. */
  queued?: number | null;
  running?: number | null;
  givenUp?: number | null;
  balancing?: number | null;
  backlogBytes?: number | null;
  repairedBytes?: number | null;
  /** Every shard was hashed after this time. */
  scrubbedSince?: string | null;
  /** Why repairs failed, with the number of objects. */
  obstacles?: [string, number][] | null;
}

interface Network {
  nodes: Node[];
  /** Null while no origin answers. */
  repair?: Repairs | null;
}

const EVERY_MS = 5000;
const SAMPLES_MAX = 120;
const TONES: Record<string, string> = { up: "good", silent: "bad", draining: "warn", full: "warn" };

export function NetworkPage() {
  const { value, fault, reload } = useLoaded<Network>("/network", EVERY_MS);
  const isMissing = fault !== null && (fault.isUnknownRoute || fault.status === 400);
  const up = value?.nodes.filter((it) => it.state === "up").length ?? 0;
  return (
    <Page title="Network" line={value && `${count(value.nodes.length, "node")}, ${up} of them up`}>
      {isMissing ? (
        <NotOffered what="The list of nodes">
          <code>evernear node ls</code> shows it.
        </NotOffered>
      ) : (
        <>
          <FaultBox fault={fault} again={reload} />
          {!value && !fault && <Loading />}
          {value && <Plots network={value} />}
          {value?.repair && <Repair repair={value.repair} />}
          {value && <Nodes nodes={value.nodes} />}
        </>
      )}
    </Page>
  );
}

/** What a plot is made of, noted at each answer; null where it was not told. */
interface Note {
  at: number;
  used: number | null;
  backlog: number | null;
  repaired: number | null;
}

function Plots({ network }: { network: Network }) {
  const [notes, setNotes] = useState<Note[]>([]);
  useEffect(() => {
    const note = noted(network, Date.now());
    setNotes((was) => [...was, note].slice(-SAMPLES_MAX));
  }, [network]);
  const [used, backlog, repaired] = (["used", "backlog", "repaired"] as const).map((field) => samples(notes, field));
  const perSecond = (value: number) => `${bytes(value)}/s`;
  return (
    <section class="grid" aria-label="Since this page was opened">
      {!!used?.length && <Plot title="Stored on origins" samples={used} shown={bytes} />}
      {!!backlog?.length && <Plot title="Waits for repair" samples={backlog} shown={bytes} />}
      {!!repaired?.length && <Plot title="Made again" samples={rates(repaired)} shown={perSecond} />}
    </section>
  );
}

function noted({ nodes, repair }: Network, at: number): Note {
  const used = nodes.map((it) => it.bytesUsed).filter((it) => typeof it === "number");
  return {
    at,
    used: used.length === 0 ? null : used.reduce((all, it) => all + it, 0),
    backlog: repair?.backlogBytes ?? null,
    repaired: repair?.repairedBytes ?? null,
  };
}

function samples(notes: Note[], field: "used" | "backlog" | "repaired"): Sample[] {
  return notes.flatMap(({ at, [field]: value }) => (value === null ? [] : [{ at, value }]));
}

function Repair({ repair }: { repair: Repairs }) {
  const { queued, running, givenUp, backlogBytes, scrubbedSince, obstacles } = repair;
  const busy = (queued ?? 0) + (running ?? 0);
  return (
    <section class="card" aria-label="Repair">
      <h2>Repair</h2>
      <p class={busy ? "warn" : "good"}>
        {busy === 0
          ? "Nothing waits for repair."
          : `${count(busy, "object")} ${busy === 1 ? "waits" : "wait"} or ${busy === 1 ? "is" : "are"} under repair.`}
        {!!backlogBytes && ` ${bytes(backlogBytes)} of shards are to be made.`}
      </p>
      {!!givenUp && <p class="bad">{count(givenUp, "object")} could not be repaired.</p>}
      {!!obstacles?.length && (
        <ul class="dim">
          {obstacles.map(([why, objects]) => (
            <li key={why}>
              {count(objects, "object")}: {visible(why)}
            </li>
          ))}
        </ul>
      )}
      <p class="dim">
        {scrubbedSince
          ? `Every shard was read and verified since ${minute(scrubbedSince)}.`
          : "Not every shard was read and verified yet, or an origin is down."}
      </p>
    </section>
  );
}

function Nodes({ nodes }: { nodes: Node[] }) {
  if (nodes.length === 0) return <Empty>The server knows no node.</Empty>;
  const byPlace = [...nodes].sort(
    (a, b) => (a.place ?? "").localeCompare(b.place ?? "") || a.name.localeCompare(b.name),
  );
  return (
    <section class="card" aria-label="Nodes">
      <table>
        <thead>
          <tr>
            <th scope="col">Node</th>
            <th scope="col">Place</th>
            <th scope="col" class="wide">
              Filled
            </th>
            <th scope="col" class="number wide">
              Load
            </th>{" "}
            <th scope="col">State</th>
          </tr>
        </thead>
        <tbody>
          {byPlace.map((node) => (
            <Row key={`${node.kind} ${node.name}`} node={node} />
          ))}
        </tbody>
      </table>
    </section>
  );
}

function Row({ node }: { node: Node }) {
  const { name, kind, place, operator, address, seen, state, load } = node;
  return (
    <tr>
      <th scope="row">
        <span>
          {visible(name)} <span class="chip">{visible(kind)}</span>
        </span>
        {address && <small class="dim">{visible(address)}</small>}
      </th>
      <td>
        {place ? placed(place) : "–"}
        {operator && <small class="dim">{visible(operator)}</small>}
      </td>
      <td class="wide">
        <Filled node={node} />
      </td>
      <td class="number wide">{load != null ? `${load} %` : "–"}</td>
      <td>
        <span class={TONES[state ?? ""] ?? "dim"}>{state ? visible(state) : "not known"}</span>
        {seen && <small class="dim">heard {ago(seen, Date.now())}</small>}
      </td>
    </tr>
  );
}

function Filled({ node: { name, bytesUsed, bytesFree } }: { node: Node }) {
  if (bytesUsed == null && bytesFree == null) return <>–</>;
  if (bytesUsed == null || bytesFree == null)
    return <>{bytesUsed == null ? `${bytes(bytesFree ?? 0)} free` : bytes(bytesUsed)}</>;
  return (
    <>
      <meter min={0} max={bytesUsed + bytesFree} value={bytesUsed} aria-label={`${visible(name)}: space used`} />
      <small class="dim">
        {bytes(bytesUsed)} of {bytes(bytesUsed + bytesFree)}
      </small>
    </>
  );
}
