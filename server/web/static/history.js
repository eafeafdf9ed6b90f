// The runs of this aggregator, and two of them side by side.

import { get, ofRun } from "./api.js";
import { Chart } from "./charts.js";
import { at, h, redraw, text } from "./dom.js";
import { bytes, count, duration, joules, leastOf, MISSING, number, onAxis, percent, quality } from "./format.js";
import { byFirst, finished, summed, total } from "./state.js";

const chosen = new Set();
let charts = null;

/** The table of runs. */
export function drawRuns(runs, current, open) {
  for (const id of chosen) if (!runs.some((run) => run.run_id === id)) chosen.delete(id);
  redraw(at("runs"), [runs, current, [...chosen]], () => runs.map((run) => {
    const box = h("input", { type: "checkbox", "aria-label": `Compare ${run.run_id}`, onchange: () => choose(run.run_id, box.checked) });
    box.checked = chosen.has(run.run_id);
    const name = h("button", { type: "button", class: "as-link", onclick: () => open(run.run_id) }, run.run_id);
    return h("tr", { class: run.run_id === current ? "current" : "" }, h("td", {}, box),
      h("th", { scope: "row" }, name), h("td", {}, h("span", { class: `pill ${run.state}` }, run.state)),
      h("td", { class: "n" }, `${run.round} / ${run.rounds || MISSING}`), h("td", { class: "what" }, run.workload), h("td", { class: "soft remark" }, run.reason));
  }));
}

function choose(id, on) {
  if (on) chosen.add(id); else chosen.delete(id);
  if (chosen.size > 2) {
    chosen.delete(chosen.values().next().value); // the one chosen first makes room
    for (const box of at("runs").querySelectorAll("input")) box.checked = chosen.has(box.getAttribute("aria-label").slice("Compare ".length));
  }
  at("compare").disabled = chosen.size !== 2;
}

const ROWS = [
  ["state", (r) => r.run.state], ["workload", (r) => `${r.run.workload}, ${r.run.preset}`], ["workers", (r) => r.run.workers_wanted],
  ["chips", (r) => r.run.chips.join(", ")], ["codec", (r) => r.run.codec], ["strategy", (r) => r.run.strategy], ["seed", (r) => r.run.seed],
  ["rounds done (counted)", (r) => finished(r.list).length],
  [null, (r) => quality(r.run.headline)(last(r)?.metrics?.[r.run.headline] ?? null)],
  ["loss (measured)", (r) => number(last(r)?.loss)],
  ["energy (modelled)", (r) => joules(total(r.list, "energy_j"))],
  ["… FP, BP, WG, UPDATE (modelled)", (r) => { const parts = byFirst(summed(r.list, "energy_by_part")); return ["fp", "bp", "wg", "update"].map((key) => joules(parts[key] ?? null)).join(", "); }],
  ["emulated time (modelled)", (r) => duration(total(r.list, "emulated_s"))],
  ["cycles (modelled)", (r) => count(total(r.list, "cycles"))],
  ["DRAM (modelled)", (r) => bytes(total(r.list, "dram_bytes"))],
  ["models up + down (measured)", (r) => bytes(total(r.list, "bytes_up") + total(r.list, "bytes_down"))],
  ["firing rate, last round (measured)", (r) => percent(last(r)?.spike_rate ?? null)],
  ["wall time of rounds (measured)", (r) => duration(total(r.list, "wall_s"))],
];
const last = (run) => finished(run.list).at(-1);

/** Load two runs and show them side by side. */
export async function compare() {
  const runs = await Promise.all([...chosen].map(async (id) => {
    const found = await get(ofRun(id, "snapshot"));
    return { id, run: found.run, list: Object.values(found.rounds).sort((a, b) => a.round - b.round) };
  }));
  const headline = runs[0].run.headline, numbers = [...new Set(runs.flatMap((run) => run.list.map((round) => round.round)))].sort((a, b) => a - b);
  at("comparison").hidden = false;
  text(at("comparison-title"), runs.map((run) => run.id).join(" and "));
  text(at("compare-quality-title"), headline[0].toUpperCase() + headline.slice(1));
  charts?.forEach((chart) => chart.close());
  const series = runs.map((run, i) => ({ label: run.id, colour: `c${i}`, dash: i ? [6, 4] : undefined }));
  charts = [
    new Chart(at("compare-quality"), { about: headline, shown: quality(headline), ticks: onAxis(headline), least: leastOf(headline), series }),
    new Chart(at("compare-loss"), { about: "loss", shown: number, ticks: onAxis("loss"), series }),
  ];
  const curve = (pick) => runs.map((run) => numbers.map((n) => { const round = run.list.find((one) => one.round === n); return round ? pick(round) ?? null : null; }));
  charts[0].show(numbers, curve((round) => round.metrics[headline]));
  charts[1].show(numbers, curve((round) => round.loss));
  at("compare-head").replaceChildren(h("th", { scope: "col" }, ""), ...runs.map((run, i) => h("th", { scope: "col", class: `c${i} key` }, run.id)));
  at("compare-rows").replaceChildren(...ROWS.map(([label, shown]) => {
    const values = runs.map((run) => String(shown(run)));
    return h("tr", { class: values[0] === values[1] ? "same" : "" }, h("th", { scope: "row" }, label ?? `${headline} (measured)`), ...values.map((value) => h("td", {}, value)));
  }));
  at("comparison-title").focus();
}
