// What happened, in words.

import { at, h } from "./dom.js";
import { bytes, clock, duration } from "./format.js";

const MAX_LINES = 300;
const NOISE = new Set(["task_progress", "task_sent"]);
const because = (event) => (event.reason ? `: ${event.reason}` : "");

const WORDS = {
  run_submitted: () => "run submitted",
  workers_awaited: (e) => `waiting for ${e.wanted} workers, ${e.joined?.length ?? 0} here`,
  run_started: (e) => `training begins with round ${e.first_round}`,
  worker_joined: (e) => `${e.name} ${e.rejoined ? "is back" : "joined"}${e.chip ? ` on ${e.chip}` : ""}`,
  worker_lost: (e) => `${e.name} lost${because(e)}`,
  worker_quarantined: (e) => `${e.name} in quarantine${because(e)}`,
  worker_drained: (e) => `${e.name} asked to leave${because(e)}`,
  round_started: (e) => `round ${e.round} begins with ${e.workers?.length ?? 0} workers`,
  task_sent: (e) => `round ${e.round}: ${bytes(Number(e.bytes_down ?? 0))} to ${e.worker}`,
  task_progress: (e) => `round ${e.round}: ${e.worker} at step ${e.step ?? 0} of ${e.steps ?? "?"}`,
  result_received: (e) => `round ${e.round}: update of ${e.worker}, ${bytes(Number(e.bytes_up ?? 0))}`,
  result_rejected: (e) => `round ${e.round}: update of ${e.worker} refused${because(e)}`,
  task_failed: (e) => `round ${e.round}: ${e.worker} failed${because(e)}`,
  task_withdrawn: (e) => `round ${e.round}: task of ${e.worker} withdrawn${because(e)}`,
  round_aggregated: (e) => `round ${e.round}: ${e.updates ?? 0} updates aggregated`,
  model_evaluated: (e) => (e.round ? `round ${e.round} evaluated after ${duration(e.wall_s)}` : "initial model evaluated"),
  samples_published: (e) => `round ${e.round ?? 0}: ${e.samples?.length ?? 0} samples`,
  checkpoint_written: (e) => `round ${e.round} is safe on disk`,
  checkpoint_skipped: (e) => `${e.file} is damaged and was skipped${because(e)}`,
  pause_requested: () => "will pause when this round is safe",
  run_paused: () => "paused",
  run_resumed: () => "resumed",
  run_finished: (e) => `run ${String(e.state ?? "").replace("RUN_STATE_", "").toLowerCase()}${because(e)}`,
};
const TONE = {
  worker_lost: "bad", worker_quarantined: "bad", task_failed: "bad", result_rejected: "bad", checkpoint_skipped: "bad",
  worker_drained: "warn", run_paused: "warn", pause_requested: "warn", task_withdrawn: "warn",
  model_evaluated: "good", run_finished: "good", worker_joined: "good",
};

const line = (event) => h("li", { class: TONE[event.kind] ?? "" },
  h("time", { datetime: new Date(event.time_unix_s * 1000).toISOString() }, clock(event.time_unix_s)),
  h("span", {}, (WORDS[event.kind] ?? (() => event.kind))(event)));

const wanted = (event) => at("log-all").checked || !NOISE.has(event.kind);

/** Add the new events; stay at the end where the reader is there. */
export function drawLog(state) {
  const fresh = state.fresh.filter(wanted);
  state.fresh = [];
  if (fresh.length) append(fresh);
}

/** Draw all lines again. */
export function redrawLog(state) {
  at("log").replaceChildren();
  append(state.events.filter(wanted));
}

function append(events) {
  const list = at("log"), atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 30;
  list.append(...events.slice(-MAX_LINES).map(line));
  while (list.children.length > MAX_LINES) list.firstChild.remove();
  if (atEnd) list.scrollTop = list.scrollHeight;
}
