// What it costs: energy by engine and component, DRAM traffic, firing rates, traffic of models.

import { Chart } from "./charts.js";
import { at, h, redraw, spark } from "./dom.js";
import { bytes, joules, percent } from "./format.js";
import { byFirst, finished, summed } from "./state.js";

const ENGINES = [["fp", "FP", "forward"], ["bp", "BP", "backward"], ["wg", "WG", "weight gradient"], ["update", "UPDATE", "update"]];
const NO_BILL = "No bill yet: it comes with the first update, unless the run is not traced.";
const sum = (parts) => Object.values(parts).reduce((a, b) => a + b, 0);
const by = (parts) => Object.entries(parts).sort((a, b) => b[1] - a[1]);
const bar = (part) => {
  const inner = h("i");
  inner.style.width = `${(100 * part).toFixed(2)}%`;
  return h("span", { class: "track thin" }, inner);
};

/** The charts of costs; made once for a page. */
export function costCharts() {
  return {
    energy: new Chart(at("chart-energy"), {
      about: "Energy of each round by engine", zero: true, stacked: true, shown: joules, empty: NO_BILL,
      series: ENGINES.map(([, label], i) => ({ label, colour: `c${i}`, kind: "bars" })),
    }),
    bytes: new Chart(at("chart-bytes"), {
      about: "Bytes of models in each round", zero: true, stacked: true, shown: bytes,
      series: [{ label: "up", colour: "c0", kind: "bars" }, { label: "down", colour: "c6", kind: "bars" }],
    }),
  };
}

export function drawCosts(state, charts) {
  const rounds = state.list, numbers = rounds.map((round) => round.round);
  const engines = rounds.map((round) => byFirst(round.energy_by_part));
  charts.energy.show(numbers, ENGINES.map(([key]) => engines.map((parts) => parts[key] ?? null)));
  charts.bytes.show(numbers, ["bytes_up", "bytes_down"].map((name) => rounds.map((round) => round[name])));
  const energy = summed(rounds, "energy_by_part"), dram = summed(rounds, "dram_by_class");
  redraw(at("energy"), energy, () => energySplit(energy));
  redraw(at("dram"), dram, () => dramClasses(dram));
  const traced = finished(rounds).filter((round) => Object.keys(round.spike_rates).length);
  redraw(at("layers"), traced.map((round) => [round.spike_rates, round.gradient_densities]), () => layers(traced));
}

const nothing = (words) => h("p", { class: "soft nothing" }, words);

function energySplit(parts) {
  const all = sum(parts);
  if (!all) return nothing(NO_BILL);
  const components = {};
  for (const [path, value] of Object.entries(parts)) {
    const component = path.split("/")[1];
    if (component) components[component] = (components[component] ?? 0) + value;
  }
  const order = by(components).map(([name]) => name), totals = byFirst(parts), most = Math.max(...Object.values(totals));
  const tone = (name) => `c${order.indexOf(name) % 8}`;
  const rows = ENGINES.filter(([key]) => key in totals).map(([key, label, about]) => {
    const pieces = order.filter((name) => parts[`${key}/${name}`] > 0).map((name) => {
      const value = parts[`${key}/${name}`], piece = h("i", { class: tone(name), title: `${label} ${name}: ${joules(value)}` });
      piece.style.flexGrow = value / totals[key];
      return piece;
    });
    const stack = h("span", { class: "stack" }, ...pieces);
    stack.style.width = `${(100 * totals[key]) / most}%`;
    return h("tr", {}, h("th", { scope: "row", title: about }, label), h("td", { class: "stack-cell" }, stack), h("td", { class: "n" }, joules(totals[key])), h("td", { class: "n soft" }, percent(totals[key] / all, 0)));
  });
  const legend = order.map((name) => h("li", { class: tone(name) }, h("span", {}, name), h("b", {}, percent(components[name] / all, 0))));
  return [
    h("p", { class: "big" }, joules(all), h("span", { class: "soft" }, " all workers, all rounds")),
    h("table", { class: "bars" }, h("caption", { class: "hidden" }, "Energy by engine"), h("tbody", {}, ...rows)),
    h("ul", { class: "legend" }, ...legend),
  ];
}

function dramClasses(parts) {
  const rows = by(parts).filter(([name]) => !name.includes("/"));
  if (!rows.length) return nothing(NO_BILL);
  const most = rows[0][1];
  return [
    h("p", { class: "big" }, bytes(sum(parts)), h("span", { class: "soft" }, " all workers, all rounds")),
    h("table", { class: "bars" }, h("caption", { class: "hidden" }, "DRAM traffic by class of tensors"), h("tbody", {}, ...rows.map(([name, value]) =>
      h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "stack-cell" }, bar(value / most)), h("td", { class: "n" }, bytes(value)))))),
  ];
}

function layers(rounds) {
  if (!rounds.length) return nothing("No firing rates yet: they come with the first round.");
  const last = rounds.at(-1).spike_rates, dense = rounds.at(-1).gradient_densities, names = Object.keys(last), most = Math.max(...rounds.flatMap((round) => Object.values(round.spike_rates)));
  return [
    h("p", { class: "big" }, percent(rounds.at(-1).spike_rate), h("span", { class: "soft" }, " of all neuron-steps fired")),
    h("table", { class: "bars" }, h("caption", { class: "hidden" }, "Firing rate and gradient density by layer, newest round"),
      h("thead", {}, h("tr", {}, ...["layer", "newest round", "rounds", "fired", "grads"].map((words, i) => h("th", { scope: "col", class: i > 2 ? "n" : "" }, words)))), h("tbody", {}, ...names.map((name) =>
      h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "stack-cell" }, bar(last[name] / most)),
        h("td", {}, spark(rounds.map((round) => round.spike_rates[name] ?? null), { width: 56, height: 22 })), h("td", { class: "n" }, percent(last[name])), h("td", { class: "n soft" }, percent(dense[name] ?? null, 0)))))),
  ];
}
