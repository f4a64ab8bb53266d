// A line over time, drawn as SVG, with its last value in words.

export interface Sample {
  at: number;
  value: number;
}

const [WIDTH, HEIGHT, PAD] = [240, 56, 3];

export function Plot({
  title,
  samples,
  shown,
  max,
}: {
  title: string;
  samples: Sample[];
  shown: (value: number) => string;
  max?: number;
}) {
  const last = samples.at(-1);
  return (
    <figure class="card plot">
      <figcaption>
        <span class="dim">{title}</span>
        <b>{last ? shown(last.value) : "–"}</b>
      </figcaption>
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
        <path class="base" d={`M0 ${HEIGHT - PAD}H${WIDTH}`} />
        {samples.length > 1 && <path class="line" d={path(samples, max ?? top(samples))} />}
      </svg>
    </figure>
  );
}

/** Returns the line; time goes from left to right, and the greatest value is at the top. */
export function path(samples: Sample[], max: number): string {
  const [from, to] = [samples[0]?.at ?? 0, samples.at(-1)?.at ?? 0];
  const x = (at: number) => ((at - from) / Math.max(to - from, 1)) * WIDTH;
  const y = (value: number) => HEIGHT - PAD - (value / Math.max(max, Number.EPSILON)) * (HEIGHT - 2 * PAD);
  return samples
    .map((it, index) => `${index === 0 ? "M" : "L"}${x(it.at).toFixed(1)} ${y(it.value).toFixed(1)}`)
    .join("");
}

function top(samples: Sample[]): number {
  return Math.max(...samples.map((it) => it.value), 1);
}

/** Returns how fast a count grew between samples, a second; one that fell began anew. */
export function rates(samples: Sample[]): Sample[] {
  return samples.slice(1).map(({ at, value }, index) => {
    const before = samples[index] ?? { at, value };
    return { at, value: (Math.max(0, value - before.value) * 1000) / Math.max(at - before.at, 1) };
  });
}
