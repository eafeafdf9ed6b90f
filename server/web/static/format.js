// Numbers as people read them. What nobody reported is a dash, never 0.

export const MISSING = "–";
const known = (value) => typeof value === "number" && Number.isFinite(value);

function scaled(value, units, base, digits = 3) {
  if (!known(value)) return MISSING;
  if (value === 0) return `0 ${units[0][0]}`;
  const size = Math.abs(value);
  const [unit, factor] = units.find(([, f]) => size >= f) ?? units.at(-1);
  const shown = value / factor;
  return `${Math.abs(shown) >= 1000 ? Math.round(shown) : Number(shown.toPrecision(digits))}\u00a0${unit}`;
}

const JOULES = [["kJ", 1e3], ["J", 1], ["mJ", 1e-3], ["µJ", 1e-6], ["nJ", 1e-9], ["pJ", 1e-12]];
const BYTES = [["GB", 1e9], ["MB", 1e6], ["kB", 1e3], ["B", 1]];

export const joules = (value) => (value === 0 ? "0 J" : scaled(value, JOULES));
export const bytes = (value) => (value === 0 ? "0 B" : scaled(value, BYTES));
export const percent = (value, digits = 1) => (known(value) ? `${(100 * value).toFixed(digits)} %` : MISSING);
export const number = (value, digits = 4) => (known(value) ? String(Number(value.toPrecision(digits))) : MISSING);
export const count = (value) => (known(value) ? Math.round(value).toLocaleString("en").replaceAll(",", " ") : MISSING);

export function duration(seconds) {
  if (!known(seconds)) return MISSING;
  if (seconds < 1e-3) return `${number(seconds * 1e6, 3)} µs`;
  if (seconds < 1) return `${number(seconds * 1e3, 3)} ms`;
  if (seconds < 60) return `${number(seconds, 3)} s`;
  const whole = Math.round(seconds), hours = Math.floor(whole / 3600), minutes = Math.floor((whole % 3600) / 60);
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${whole % 60} s`;
}

export const clock = (unix) => new Date(unix * 1000).toLocaleTimeString([], { hour12: false });

/** How a model's metric is written: accuracy in percent, others as they are. */
export const quality = (name) => (name === "accuracy" ? (value) => percent(value) : number);
export const onAxis = (name) => (name === "accuracy" ? (value, apart) => percent(value, Number.isInteger(Number((100 * apart).toFixed(3))) ? 0 : 1) : (value) => number(value));
/** The least range of an axis: chance alone moves an accuracy by a few points. */
export const leastOf = (name) => (name === "accuracy" ? 0.1 : 0);
