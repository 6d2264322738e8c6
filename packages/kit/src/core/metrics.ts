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
