// Parses metrics in the text format of OpenMetrics, and computes rates and quantiles from two measurements. Serves the page
// Stack.

const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g;
const ESCAPED = { "\\n": "\n", '\\"': '"', "\\\\": "\\" };

/** Returns the samples of a text as `{ labels, value }`, by name. Lines that can't be parsed are skipped. */
export function parse(text) {
  const samples = new Map();
  for (const line of text.split("\n")) {
    if (line.startsWith("#")) continue;
    const found = SAMPLE.exec(line);
    if (!found) continue;
    const [, name, written, number] = found;
    const labels = {};
    for (const [, key, value] of (written ?? "").matchAll(LABEL)) {
      labels[key] = value.replace(/\\[n"\\]/g, (mark) => ESCAPED[mark]);
    }
    const value = number === "+Inf" ? Infinity : Number(number);
    if (!samples.has(name)) samples.set(name, []);
    samples.get(name).push({ labels, value });
  }
  return samples;
}

/** Returns the sum of the samples that have these labels; undefined if there are none. */
export function sum(samples, name, labels = {}) {
  const wanted = Object.entries(labels);
  const found = (samples?.get(name) ?? []).filter((sample) =>
    wanted.every(([key, value]) => sample.labels[key] === value));
  return found.length > 0 ? found.reduce((total, sample) => total + sample.value, 0) : undefined;
}

/** Returns the growth of a counter per second between two measurements. */
export function rate(before, now, seconds, name, labels) {
  const total = sum(now, name, labels);
  if (total === undefined) return undefined;
  // A series that is new began at 0. One that has shrunk was reset, and its growth is not known.
  return Math.max(0, total - (sum(before, name, labels) ?? 0)) / seconds;
}

function buckets(samples, name) {
  const counts = new Map();
  for (const { labels, value } of samples?.get(`${name}_bucket`) ?? []) {
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    counts.set(bound, (counts.get(bound) ?? 0) + value);
  }
  return counts;
}

/**
 * Returns the value below which a share of the observations of a histogram lies, of those between two measurements;
 * undefined if there were none.
 */
export function quantile(before, now, name, share) {
  const old = buckets(before, name);
  const grown = [...buckets(now, name)]
    .map(([bound, count]) => [bound, count - (old.get(bound) ?? 0)])
    .sort(([a], [b]) => a - b);
  const total = grown.at(-1)?.[1] ?? 0;
  if (total <= 0) return undefined;
  const rank = share * total;
  let [low, below] = [0, 0];
  for (const [bound, count] of grown) {
    if (count >= rank) {
      if (bound === Infinity) return low;
      return low + (bound - low) * ((rank - below) / Math.max(count - below, 1));
    }
    [low, below] = [bound, count];
  }
  return low;
}

/** Formats a number for people, such as 1.2k, 34 or 0.5. */
export function short(value) {
  if (value === undefined) return "–";
  const steps = [[1e9, "G"], [1e6, "M"], [1e3, "k"]];
  for (const [size, unit] of steps) {
    if (value >= size) return `${(value / size).toFixed(value >= 10 * size ? 0 : 1)}${unit}`;
  }
  return value >= 10 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1);
}

/** Formats a time in seconds for people. */
export function span(seconds) {
  if (seconds === undefined) return "–";
  if (seconds >= 1) return `${seconds.toFixed(seconds >= 10 ? 0 : 1)} s`;
  if (seconds >= 1e-3) return `${(seconds * 1e3).toFixed(seconds >= 1e-2 ? 0 : 1)} ms`;
  return `${(seconds * 1e6).toFixed(0)} µs`;
}

/** Formats a number of bytes for people. */
export function size(bytes) {
  if (bytes === undefined) return "–";
  if (bytes >= 1 << 20) return `${(bytes / (1 << 20)).toFixed(bytes >= 10 * (1 << 20) ? 0 : 1)} MiB`;
  return bytes >= 1 << 10 ? `${(bytes / (1 << 10)).toFixed(1)} KiB` : `${bytes} B`;
}
