/** Numbers of one kind at one moment, one for each combination of labels. */
export interface MetricFamily {
  /** `klatsch_…`, with the unit; counters end in `_total`. */
  readonly name: string;
  readonly help: string;
  /** `counter`: it only grows while the process lives. `histogram`: samples have a `suffix`. */
  readonly type: "counter" | "gauge" | "histogram";
  readonly samples: readonly MetricSample[];
}

/** One number of a family. */
export interface MetricSample {
  /** Of a histogram: cumulated counts with label `le`, their sum, and how many there are. */
  readonly suffix?: "_bucket" | "_sum" | "_count";
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** A family whose numbers go up and down. A number alone is its only sample, without labels. */
export function gauge(name: string, help: string, samples: MetricFamily["samples"] | number): MetricFamily {
  return { name, help, type: "gauge", samples: samplesOf(samples) };
}

/** A family whose numbers only grow. A number alone is its only sample, without labels. */
export function counter(name: string, help: string, samples: MetricFamily["samples"] | number): MetricFamily {
  return { name, help, type: "counter", samples: samplesOf(samples) };
}

/** A family of observations counted by size: the samples of one or more {@link Histogram}s. */
export function histogram(name: string, help: string, samples: MetricFamily["samples"]): MetricFamily {
  return { name, help, type: "histogram", samples };
}

/**
 * Counts observations by size, and adds them up. One costs a few nanoseconds and allocates nothing: keep one for each combination
 * of labels, and of these as few as somebody looks at.
 */
export class Histogram {
  readonly #bounds: readonly number[];
  /** By the first bound that they did not exceed; the last is for those that exceeded all. */
  readonly #counts: Float64Array;
  #sum = 0;

  /** `bounds`: upper ones, ascending, in the unit of the family's name. @throws RangeError if they are not. */
  constructor(bounds: readonly number[]) {
    if (bounds.some((bound, at) => !Number.isFinite(bound) || bound <= (bounds[at - 1] ?? -Infinity)))
      throw new RangeError(`bounds of a histogram ascend: ${bounds.join(", ")}`);
    this.#bounds = bounds;
    this.#counts = new Float64Array(bounds.length + 1);
  }

  /** What is no finite number is not counted: it would be the sum for ever. */
  observe(value: number): void {
    if (!Number.isFinite(value)) return;
    const bounds = this.#bounds;
    let at = 0;
    while (at < bounds.length && value > (bounds[at] as number)) at += 1;
    this.#counts[at] = (this.#counts[at] as number) + 1;
    this.#sum += value;
  }

  get count(): number {
    return this.#counts.reduce((sum, count) => sum + count, 0);
  }

  get sum(): number {
    return this.#sum;
  }

  /** Cumulated counts by `le`, their sum, and how many there are. */
  samples(labels: Readonly<Record<string, string>>): MetricFamily["samples"] {
    let below = 0;
    const buckets = [...this.#bounds, Infinity].map((bound, at) => {
      below += this.#counts[at] ?? 0;
      return { suffix: "_bucket" as const, labels: { ...labels, le: valueText(bound) }, value: below };
    });
    return [
      ...buckets,
      { suffix: "_sum", labels, value: this.#sum },
      { suffix: "_count", labels, value: below },
    ];
  }
}

function samplesOf(samples: MetricFamily["samples"] | number): MetricFamily["samples"] {
  return typeof samples === "number" ? [{ labels: {}, value: samples }] : samples;
}

/**
 * Port: what has numbers to show. It is asked when somebody looks, so that nobody counts for nobody; the families of
 * several sources go into one {@link renderMetrics} if their names differ.
 */
export interface MetricSource {
  metricFamilies(): readonly MetricFamily[];
}

/** In the text format of Prometheus, version 0.0.4. */
export function renderMetrics(families: readonly MetricFamily[]): string {
  const lines = families.flatMap(({ name, help, type, samples }) => [
    `# HELP ${name} ${help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")}`,
    `# TYPE ${name} ${type}`,
    ...samples.map(
      ({ suffix = "", labels, value }) => `${name}${suffix}${labelText(labels)} ${valueText(value)}`,
    ),
  ]);
  return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
}

function labelText(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([label, value]) => `${label}="${escaped(value)}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function escaped(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

function valueText(value: number): string {
  if (value === Infinity) return "+Inf";
  return value === -Infinity ? "-Inf" : String(value);
}
