// The federation: a map, and a card for each worker.

import { at, h, redraw, s, text } from "./dom.js";
import { bytes, duration, joules, MISSING, number, percent } from "./format.js";
import { GLYPHS } from "./state.js";

const WIDTH = 420, HEIGHT = 400, CX = WIDTH / 2, CY = HEIGHT / 2 - 8;
const MAX_NAMED = 16;
const short = (name, most) => (name.length > most ? `${name.slice(0, most - 1)}…` : name);

/** Aggregator in the middle, workers around it. */
export function drawMap(state) {
  const fleet = state.fleet, wanted = state.run.workers_wanted;
  const counts = {};
  for (const worker of fleet) counts[worker.state] = (counts[worker.state] ?? 0) + 1;
  text(at("map-words"), Object.entries(counts).map(([name, n]) => `${n} ${name}`).join(" · ") || `waiting for ${wanted} workers`);
  const seen = fleet.map(({ name, state: now, part }) => [name, now, part?.steps ? Math.round(50 * part.step / part.steps) : 0]);
  redraw(at("map"), [seen, state.run.state, state.list.length], () => map(fleet, state));
}

function map(fleet, state) {
  const around = fleet.length > MAX_NAMED ? 12 : 23;
  const svg = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "federation",
    "aria-label": `Aggregator with ${fleet.length} workers: ${fleet.map((one) => `${one.name} ${one.state}`).join(", ")}` });
  const places = fleet.map((_, i) => {
    const angle = -Math.PI / 2 + (2 * Math.PI * i) / Math.max(fleet.length, 1);
    return [CX + 158 * Math.cos(angle), CY + 146 * Math.sin(angle)];
  });
  fleet.forEach((worker, i) => {
    svg.append(s("line", { class: `edge ${worker.state}`, x1: CX, y1: CY, x2: places[i][0], y2: places[i][1] }));
  });
  const rounds = state.list.length;
  svg.append(s("g", { class: `hub ${state.run.state}` },
    s("rect", { x: CX - 54, y: CY - 31, width: 108, height: 62, rx: 14 }),
    s("text", { x: CX, y: CY - 5, class: "hub-name" }, "aggregator"),
    s("text", { x: CX, y: CY + 15, class: "hub-round" }, rounds ? `round ${rounds}` : state.run.state)));
  fleet.forEach((worker, i) => svg.append(node(worker, places[i], around, fleet.length)));
  return svg;
}

function node({ name, state, part }, [x, y], radius, many) {
  const done = state === "done" ? 1 : part?.steps ? part.step / part.steps : 0, way = 2 * Math.PI * radius;
  const group = s("g", { class: `node ${state}` },
    s("title", {}, `${name}: ${state}`),
    s("circle", { class: "disc", cx: x, cy: y, r: radius }),
    s("circle", { class: "ring", cx: x, cy: y, r: radius, "stroke-dasharray": `${(done * way).toFixed(1)} ${way.toFixed(1)}`, transform: `rotate(-90 ${x} ${y})` }),
    s("text", { class: "glyph", x, y: y + (radius > 20 ? 6 : 4) }, GLYPHS[state] ?? "·"));
  if (many <= MAX_NAMED) group.append(s("text", { class: "name", x, y: y + radius + 16 }, short(name, 14)));
  return group;
}

const FIGURES = [
  ["loss", "loss", "measured"], ["rate", "firing rate", "measured"], ["speed", "samples per s", "measured"],
  ["energy", "energy a round", "modelled"], ["traffic", "models moved", "measured"], ["beat", "heartbeat", "measured"],
];
const GONE = new Set(["lost", "left", "away"]);
const cards = new Map();

/** A card for each worker, kept from one drawing to the next so that focus stays where it is. */
export function drawWorkers(state, mayControl, drain) {
  const fleet = state.fleet;
  text(at("workers-words"), `${fleet.filter((one) => !GONE.has(one.state)).length} of ${state.run.workers_wanted} here`);
  for (const [name, card] of cards) {
    if (!fleet.some((one) => one.name === name)) { card.root.remove(); cards.delete(name); }
  }
  fleet.forEach((worker) => {
    let card = cards.get(worker.name);
    if (!card) {
      card = newCard(worker.name, drain);
      cards.set(worker.name, card);
    }
    fill(card, worker, state, mayControl);
  });
  const column = at(fleet.length > 3 ? "left" : "right"); // the log goes where there is room
  if (at("log-panel").parentNode !== column) column.append(at("log-panel"));
  const wanted = fleet.map((one) => cards.get(one.name).root), box = at("workers");
  if (wanted.some((root, i) => box.children[i] !== root)) box.replaceChildren(...wanted);
}

/** Forget the cards of the run before. */
export function forgetWorkers() {
  cards.clear();
  at("workers").replaceChildren();
}

function newCard(name, drain) {
  const parts = { pill: h("span", { class: "pill" }), sub: h("p", { class: "soft sub" }), words: h("span", {}), percent: h("span", { class: "soft" }) };
  parts.track = h("div", { class: "track thin", role: "progressbar", "aria-label": `Steps of ${name}`, "aria-valuemin": "0", "aria-valuemax": "100" }, h("i"));
  parts.reason = h("p", { class: "reason", hidden: true });
  parts.cores = h("div", { class: "cores-box" });
  const figures = FIGURES.map(([key, label, kind]) => {
    parts[key] = h("dd");
    return h("div", { class: kind }, parts[`${key}Name`] = h("dt", {}, label), parts[key]);
  });
  parts.drain = h("button", { type: "button", class: "ghost small", onclick: () => drain(name), "aria-label": `Drain ${name}` }, "Drain");
  parts.root = h("article", { class: "card worker" },
    h("header", {}, h("h3", { title: name }, name), parts.pill), parts.sub,
    h("div", { class: "progress-words" }, parts.words, parts.percent), parts.track, parts.reason,
    h("dl", { class: "figures" }, ...figures), parts.cores, h("footer", {}, parts.boardWords = h("span", { class: "soft" }), parts.drain));
  return parts;
}

function fill(card, { worker, part, billed, up, down, board, state: now }, state, mayControl) {
  card.root.className = `card worker ${now} ${GONE.has(now) ? "gone" : ""}`;
  card.pill.className = `pill ${now}`;
  text(card.pill, `${GLYPHS[now] ?? ""} ${now}`);
  text(card.sub, [worker.chip, worker.cores ? `${worker.cores} ${worker.cores === 1 ? "core" : "cores"}` : ""].filter(Boolean).join(" · ") || MISSING);
  const done = part?.steps ? part.step / part.steps : 0;
  text(card.words, part?.steps ? `step ${part.step} of ${part.steps}` : GONE.has(now) ? "no part in this round" : "no step yet");
  text(card.percent, part?.steps ? percent(done, 0) : "");
  card.track.firstChild.style.width = `${100 * done}%`;
  card.track.setAttribute("aria-valuenow", Math.round(100 * done));
  const reason = worker.quarantined || (now === "lost" || now === "left" ? part?.reason || (now === "lost" ? "its stream broke and it did not come back" : "it has left") : part?.reason) || "";
  card.reason.hidden = !reason;
  text(card.reason, reason);
  text(card.loss, number(part?.loss ?? billed?.loss));
  text(card.rate, percent(part?.spike_rate ?? billed?.spike_rate));
  const [samples, steps] = GONE.has(now) ? [] : [worker.samples_per_s, part?.steps_per_s];
  // Until a first result nobody knows how many samples a step has.
  text(card.speedName, steps && !samples ? "steps per s" : "samples per s");
  text(card.speed, number(samples || steps, 3));
  text(card.energy, joules(billed?.energy_j ?? null));
  text(card.traffic, bytes(up + down));
  card.traffic.title = `${bytes(up)} up, ${bytes(down)} down`;
  const age = board ? board.heartbeat_age_s + (performance.now() - state.boardsAt) / 1000 : null;
  text(card.beat, age === null ? MISSING : age < 1.5 ? "now" : `${Math.round(age)} s ago`);
  card.beat.className = age > 10 ? "bad" : "";
  text(card.boardWords, board ? [bytes(board.rss_bytes), `${duration(board.cpu_s)} CPU`, board.temperature_c === null ? "" : `${Math.round(board.temperature_c)} °C`].filter(Boolean).join(" · ") : "");
  card.drain.hidden = !mayControl || state.over || !board?.connected || now === "leaving";
  redraw(card.cores, billed?.core_busy ?? [], () => cores(billed?.core_busy ?? []));
}

function cores(busy) {
  if (!busy.length) return null;
  const mean = busy.reduce((a, b) => a + b, 0) / busy.length, most = Math.max(...busy, 1e-9);
  const cells = h("div", { class: "cores", role: "img", "aria-label": `Cores busy, modelled: ${busy.map((value, i) => `core ${i} ${percent(value, 0)}`).join(", ")}` },
    ...busy.map((value, i) => {
      const cell = h("i", { title: `core ${i}: ${percent(value, 0)} busy; the darker, the nearer to the busiest core` });
      cell.style.setProperty("--busy", (value / most).toFixed(3));
      return cell;
    }));
  return [h("p", { class: "cores-words" }, h("span", { class: "tag modelled" }, "cores busy"), h("span", { class: "soft" }, `mean ${percent(mean, 0)}, busiest ${percent(most, 0)}`)), cells];
}
