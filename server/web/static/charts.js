// Curves over rounds, drawn by uPlot in the page's colours.

import { h } from "./dom.js";

const HEIGHT = 220;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const faded = (value, alpha) => value + Math.round(alpha * 255).toString(16).padStart(2, "0");
const charts = new Set();

/** Draw all charts anew, in the colours of now. */
export function repaint() {
  for (const chart of charts) chart.build();
}

/**
 * A chart in a box.
 *
 * series: [{label, colour, kind: "line" | "bars" | "area", dash}], shown: turns a value into text, ticks: the same for the axis, told
 * how far its ticks are apart, zero: whether the scale begins at 0, stacked: each series is drawn on top of those before it,
 * least: the smallest range of the scale, empty: what to say while there is nothing to draw.
 */
export class Chart {
  constructor(box, { series, shown, ticks = (value) => shown(value), zero = false, stacked = false, least = 0, empty = "Nothing yet: it comes with the first round.", about }) {
    Object.assign(this, { box, series, shown, ticks, zero, stacked, least, about });
    this.data = [[], ...series.map(() => [])];
    this.words = h("p", { class: "hidden" });
    this.plotBox = h("div", { "aria-hidden": "true" });
    this.legend = h("ul", { class: "legend" });
    this.nothing = h("p", { class: "soft nothing" }, empty);
    box.replaceChildren(this.words, this.nothing, this.plotBox, this.legend);
    charts.add(this);
    this.observer = new ResizeObserver(() => this.plot?.setSize(this.size()));
    this.observer.observe(box);
    this.build();
  }

  /** Make room for another chart in the same box. */
  close() {
    this.observer.disconnect();
    this.plot.destroy();
    charts.delete(this);
  }

  size() {
    return { width: Math.max(120, this.box.clientWidth), height: HEIGHT };
  }

  /** Show rounds and a list of values for each series; null where there is none. */
  show(rounds, values) {
    this.raw = values;
    const known = values.some((own) => own.some((value) => value !== null && value !== undefined));
    this.nothing.hidden = known;
    this.plotBox.hidden = this.legend.hidden = !known;
    const drawn = this.stacked ? piled(values) : values;
    this.data = [rounds, ...drawn];
    this.plot.setData(this.data);
    const last = rounds.length - 1;
    const latest = this.series.map((one, i) => {
      const at = values[i].findLastIndex((value) => value !== null && value !== undefined);
      return [one, at < 0 ? null : values[i][at]];
    });
    this.words.textContent = last < 0 ? `${this.about}: nothing yet` :
      `${this.about}, round ${rounds[last]}: ${latest.map(([one, value]) => `${one.label} ${this.shown(value)}`).join(", ")}`;
    this.caption(latest.map(([, value]) => value));
  }

  caption(values) {
    this.legend.replaceChildren(...this.series.map((one, i) => h("li", { class: one.colour },
      h("span", {}, one.label), h("b", {}, this.shown(values[i] ?? null)))));
  }

  build() {
    this.plot?.destroy();
    const soft = colour("soft"), line = colour("line");
    const axis = { stroke: soft, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    const order = this.series.map((_, i) => i);
    const options = {
      ...this.size(),
      padding: [12, 12, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { size: 7 }, drag: { x: false, y: false } },
      scales: {
        x: { time: false, range: (_, from, to) => ranged(from, to) },
        y: { range: (_, from, to) => heights(from, to, this.zero, this.least) },
      },
      axes: [
        { ...axis, grid: { show: false }, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000], size: 28, label: "round", labelFont: "12px system-ui", labelSize: 16, labelGap: 0 },
        { ...axis, size: 62, values: (_, ticks, axis, space, apart) => ticks.map((tick) => this.ticks(tick, apart)) },
      ],
      series: [{}, ...order.map((i) => this.drawn(this.series[i]))],
      hooks: { setCursor: [(plot) => this.follow(plot.cursor.idx)] },
    };
    if (this.stacked) options.bands = order.slice(1).map((i) => ({ series: [i + 1, i] }));
    this.plot = new window.uPlot(options, this.data, this.plotBox);
  }

  drawn({ label, colour: name, kind = "line", dash }) {
    const stroke = colour(name), common = { label, stroke, width: 2, spanGaps: true };
    if (kind === "bars") {
      return { ...common, width: 0, fill: stroke, points: { show: false }, paths: window.uPlot.paths.bars({ size: [0.72, 34], radius: 0.12 }) };
    }
    return { ...common, dash, fill: kind === "area" ? faded(stroke, 0.12) : undefined, points: { size: 5, fill: stroke } };
  }

  follow(at) {
    if (!this.raw) return;
    if (at === null || at === undefined) this.caption(this.raw.map((values) => values.findLast((value) => value !== null && value !== undefined)));
    else this.caption(this.raw.map((values) => values[at]));
  }
}

/** Heights of series on top of each other. */
function piled(values) {
  const floor = [];
  return values.map((own) => own.map((value, i) => {
    if (value === null || value === undefined) return floor[i] ?? null;
    floor[i] = (floor[i] ?? 0) + value;
    return floor[i];
  }));
}

function ranged(from, to) {
  if (from === null || to === null) return [0, 10];
  return from === to ? [from - 0.6, to + 0.6] : [from - 0.4, to + 0.4];
}

function heights(from, to, zero, least) {
  if (from === null || to === null) return [0, 1];
  const low = zero ? Math.min(0, from) : from, spread = Math.max(to - low, least) || Math.abs(to) || 1;
  return [zero ? low : low - 0.08 * spread, Math.max(to, low + least) + 0.08 * spread];
}
