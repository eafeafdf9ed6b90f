// The page: finds the run to show, follows it, and draws what has changed.

import { follow, get, ofRun, post, Refused } from "./api.js";
import { Chart, repaint } from "./charts.js";
import { costCharts, drawCosts } from "./cost.js";
import { at, h, redraw, show, spark, text } from "./dom.js";
import { drawMap, drawWorkers, forgetWorkers } from "./fleet.js";
import { bytes, duration, joules, leastOf, number, onAxis, percent, quality } from "./format.js";
import { compare, drawRuns } from "./history.js";
import { drawLog, redrawLog } from "./log.js";
import { finished, RunState, total } from "./state.js";

const LOOK_MS = 5000;
let role = null, state = null, stream = "connecting", leave = null, chosen = location.hash.slice(1), charts = null, runs = [], waiting = false;

// -- drawing

function draw() {
  waiting = false;
  if (!state?.run) return;
  const { run } = state, rounds = state.list, done = finished(rounds);
  drawHero(run, rounds, done);
  drawTiles(run, rounds, done);
  const name = run.headline, shown = quality(name), train = rounds.map((round) => round.train_loss);
  if (!charts || charts.headline !== name) charts = makeCharts(name, shown);
  const begin = run.initial.loss !== null || Object.keys(run.initial.metrics).length > 0;
  const numbers = [...(begin ? [0] : []), ...rounds.map((round) => round.round)], from = (value) => (begin ? [value ?? null] : []);
  charts.quality.show(numbers, [[...from(run.initial.metrics[name]), ...rounds.map((round) => round.metrics[name] ?? null)]]);
  charts.loss.show(numbers, [[...from(run.initial.loss), ...rounds.map((round) => round.loss)], [...from(null), ...train]]);
  drawMap(state);
  drawWorkers(state, role === "operator", drain);
  drawCosts(state, charts);
  drawSamples(run);
  drawLog(state);
}

/** Draw soon, once, however much news comes until then. */
function soon() {
  if (waiting) return;
  waiting = true;
  // A hidden tab gets no animation frames; it is drawn when it is looked at.
  if (document.hidden) setTimeout(draw, 1000); else requestAnimationFrame(draw);
}

function makeCharts(name, shown) {
  text(at("quality-title"), name[0].toUpperCase() + name.slice(1));
  const made = charts ?? costCharts();
  charts?.quality.close();
  charts?.loss.close();
  return { ...made, headline: name,
    quality: new Chart(at("chart-quality"), { about: `${name} on the test set`, shown, ticks: onAxis(name), least: leastOf(name), series: [{ label: "global model", colour: "c6", kind: "area" }] }),
    loss: new Chart(at("chart-loss"), { about: "Loss", shown: number, ticks: onAxis("loss"), series: [{ label: "test", colour: "c1" }, { label: "training", colour: "c4", dash: [5, 4] }] }) };
}

function drawHero(run, rounds, done) {
  text(at("run-name"), run.run_id);
  const pill = at("run-state");
  pill.className = `pill ${run.state}`;
  text(pill, run.state);
  text(at("run-what"), [run.workload, run.preset, `${run.workers_wanted} workers`, run.chips.join(", "), run.strategy, `${run.codec} updates`,
    `${(run.parameters / 1000).toFixed(0)} k parameters`, `seed ${run.seed}`].join(" · "));
  show(at("run-reason"), Boolean(run.reason));
  text(at("run-reason"), run.reason);
  const planned = run.rounds_planned || rounds.length, now = rounds.at(-1);
  const steps = now && now.wall_s === null && now.workers.length
    ? now.workers.reduce((sum, part) => sum + (part.state === "done" ? 1 : part.steps ? part.step / part.steps : 0), 0) / now.workers.length : 0;
  text(at("round-words"), done.length >= planned && planned ? `All ${planned} rounds done` : `Round ${now?.round ?? 0} of ${planned}`);
  text(at("time-words"), times(run, done, planned, steps));
  const bar = at("round-bar");
  bar.setAttribute("aria-valuemax", planned);
  bar.setAttribute("aria-valuenow", done.length);
  redraw(bar, [planned, done.length, Math.round(100 * steps)], () => {
    const full = h("i"), part = h("i", { class: "part" });
    full.style.width = `${(100 * done.length) / Math.max(1, planned)}%`;
    part.style.width = `${(100 * steps) / Math.max(1, planned)}%`;
    return [full, part];
  });
  document.title = `${done.length}/${planned} ${quality(run.headline)(done.at(-1)?.metrics[run.headline] ?? null)} · ${run.run_id}`;
  const may = role === "operator", can = (button, states) => show(at(button), may && states.includes(run.state));
  can("pause", ["waiting", "running"]);
  can("resume", ["paused", "pausing", "stopped", "failed"]);
  can("stop", ["waiting", "running", "pausing", "paused"]);
}

function times(run, done, planned, steps) {
  const spent = run.updated_unix_s - run.started_unix_s, walls = done.slice(-5).map((round) => round.wall_s);
  const mean = walls.length ? walls.reduce((a, b) => a + b, 0) / walls.length : null;
  const left = mean !== null && !state.over ? Math.max(0, planned - done.length - steps) * mean : null;
  return [`${duration(spent)} so far`, mean === null ? "" : `${duration(mean)} a round`, left ? `about ${duration(left)} to go` : ""].filter(Boolean).join(" · ");
}

function drawTiles(run, rounds, done) {
  const name = run.headline, shown = quality(name), last = done.at(-1), before = done.at(-2);
  const first = run.initial.metrics[name], now = last?.metrics[name] ?? first, energy = total(rounds, "energy_j");
  const gain = last && before && name in last.metrics && name in before.metrics ? last.metrics[name] - before.metrics[name] : null;
  const points = name === "accuracy" && last && first !== undefined ? 100 * (last.metrics.accuracy - first) : 0;
  const traffic = rounds.length ? total(rounds, "bytes_up") + total(rounds, "bytes_down") : null;
  const traced = rounds.filter((round) => round.spike_rate !== null), curve = (pick) => done.map(pick);
  const tiles = [
    [name, shown(now), gain === null ? "" : `${gain >= 0 ? "▲" : "▼"} ${name === "accuracy" ? `${(100 * Math.abs(gain)).toFixed(1)} points` : shown(Math.abs(gain))}`, "measured", curve((r) => r.metrics[name] ?? null)],
    ["loss", number(last?.loss ?? run.initial.loss), last?.train_loss == null ? "" : `training ${number(last.train_loss)}`, "measured", curve((r) => r.loss)],
    ["energy", joules(energy), energy !== null && points > 0 ? `${joules(energy / points)} per point` : "chips and DRAM", "modelled", curve((r) => r.energy_j)],
    ["chip time", duration(total(rounds, "emulated_s")), "with the boards’ links", "modelled", curve((r) => r.emulated_s)],
    ["traffic", bytes(traffic), `model of ${bytes(run.model_bytes)}`, "measured", curve((r) => r.bytes_up + r.bytes_down)],
    ["firing rate", percent(traced.at(-1)?.spike_rate ?? null), "of all neuron-steps", "measured", traced.map((r) => r.spike_rate)],
  ];
  redraw(at("tiles"), tiles, () => tiles.map(([label, value, also, kind, line], i) => h("div", { class: `card c${[6, 1, 5, 4, 0, 2][i]}` },
    h("dt", {}, label, h("span", { class: `tag ${kind}` }, kind)), h("dd", {}, h("span", { class: "big" }, value), h("span", { class: "also" }, also || "\u00a0"), spark(line)))));
}

function drawSamples(run) {
  show(at("samples-panel"), run.samples.length > 0);
  text(at("samples-words"), run.samples.length ? `of the test set, round ${run.samples_round}` : "");
  redraw(at("samples"), [run.run_id, run.samples], () => run.samples.map((sample) => h("figure", {},
    h("img", { src: ofRun(run.run_id, `samples/${encodeURIComponent(sample.file.split("/").pop())}`), alt: sample.caption }),
    h("figcaption", {}, sample.caption))));
}

// -- following

function watch(id) {
  leave?.();
  state = new RunState(id);
  stream = "connecting";
  forgetWorkers();
  at("log").replaceChildren();
  const mine = state, on = (take) => (message) => { if (mine === state) { take(message); soon(); } };
  leave = follow(id, {
    news: on((message) => mine.news(message)),
    events: on((message) => mine.hear(message.events)),
    boards: on((message) => mine.board(message)),
    state: (name) => { if (mine === state) connection(stream = name); },
  });
  show(at("run"), true);
}

function connection(name) {
  const words = { live: "live", lost: "lost, retrying", over: "run over", connecting: "connecting" };
  at("link").className = `link ${name}`;
  text(at("link").lastElementChild, words[name]);
}

/** Look which runs there are; without a choice, the active one is shown. */
async function look() {
  const found = await get("/api/runs");
  runs = found.runs;
  if (chosen && !runs.some((run) => run.run_id === chosen)) {
    toast(`This aggregator has no run ${chosen}.`);
    chosen = "";
    history.replaceState(null, "", "#");
  }
  const wanted = chosen || found.active;
  show(at("none"), !runs.length);
  show(at("history"), runs.length > 0);
  if (wanted && (state?.id !== wanted || (state.over && !["completed", "stopped", "failed"].includes(runs.find((run) => run.run_id === wanted).state)))) watch(wanted);
  connection(wanted ? stream : "live"); // it answers again
  redraw(at("pick"), [runs, wanted, chosen], () => [
    h("option", { value: "", selected: !chosen }, `Follow the newest${found.active && !chosen ? `: ${found.active}` : ""}`),
    ...runs.map((run) => h("option", { value: run.run_id, selected: run.run_id === chosen }, `${run.run_id} (${run.state})`))]);
  at("pick").value = chosen;
  drawRuns(runs, wanted, choose);
}

function choose(id) {
  chosen = id;
  history.replaceState(null, "", id ? `#${id}` : "#");
  lookNow();
  scrollTo({ top: 0 });
}

async function lookNow() {
  try {
    await look();
  } catch (error) {
    if (error instanceof Refused && error.status === 401) askForToken();
    else connection("lost");
  }
}

// -- control

function toast(words) {
  text(at("toast"), words);
  show(at("toast"), true);
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => show(at("toast"), false), 6000);
}

async function wish(path, done) {
  try {
    await post(path);
    toast(done);
    lookNow();
  } catch (error) {
    toast(error.message);
  }
}

function ask(title, words, yes) {
  text(at("ask-title"), title);
  text(at("ask-words"), words);
  text(at("ask-yes"), yes);
  const dialog = at("ask");
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

async function drain(name) {
  if (await ask(`Let ${name} go?`, "It gets no more tasks and leaves. The run goes on without it; it may join again.", "Drain")) {
    wish(`/api/workers/${encodeURIComponent(name)}/drain`, `${name} was asked to leave`);
  }
}

async function stop() {
  if (await ask(`Stop ${state.id}?`, "What it has trained so far is kept and reported. It can be resumed.", "Stop")) wish(ofRun(state.id, "stop"), "The run ends after the step in hand.");
}

// -- beginning

function askForToken() {
  show(at("login"), true);
  show(at("run"), false);
  connection("connecting");
  at("token").focus();
}

async function enter() {
  const session = await get("/api/session");
  role = session.role;
  text(at("version"), `NeuroFed ${session.version}`);
  show(at("login"), false);
  await lookNow();
}

function listen() {
  at("pause").onclick = () => wish(ofRun(state.id, "pause"), "The run rests when this round is safe.");
  at("resume").onclick = () => wish(ofRun(state.id, "resume"), "The run goes on.");
  at("stop").onclick = stop;
  at("compare").onclick = () => compare().catch((error) => toast(error.message));
  at("pick").onchange = (event) => choose(event.target.value);
  at("log-all").onchange = () => state && redrawLog(state);
  at("login").onsubmit = async (event) => {
    event.preventDefault();
    try {
      await post("/api/session", at("token").value);
      at("token").value = "";
      text(at("login-error"), "");
      await enter();
    } catch (error) {
      text(at("login-error"), error.message);
    }
  };
  at("theme").onclick = () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => theme(event.matches ? "dark" : "light", false));
  addEventListener("hashchange", () => choose(location.hash.slice(1)));
  document.addEventListener("visibilitychange", () => document.hidden || soon());
}

function theme(name, keep = true) {
  document.documentElement.dataset.theme = name;
  if (keep) localStorage.setItem("neurofed-theme", name);
  repaint();
}

theme(localStorage.getItem("neurofed-theme") ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"), false);
listen();
const begin = () => enter().catch((error) => (error.status === 401 ? askForToken() : connection("lost")));
begin();
setInterval(() => (role ? lookNow() : at("login").hidden && begin()), LOOK_MS);
setInterval(() => state && !state.over && soon(), 1000); // ages of heartbeats
