// The run as the aggregator folded it. Nothing is worked out here that the aggregator knows.

const MAX_EVENTS = 400;

export class RunState {
  constructor(id) {
    this.id = id;
    this.seq = 0;
    this.run = null;
    this.workers = {};
    this.rounds = {};
    this.boards = {};
    this.boardsAt = 0;
    this.fresh = []; // events not drawn yet
    this.events = [];
  }

  /** Take a message in. Parts come whole, so taking one twice changes nothing. */
  news(message) {
    if (message.whole) {
      this.rounds = {};
      if (message.seq < this.seq) this.events = []; // a crash took the end of the log with it
    }
    else if (message.seq <= this.seq) return;
    this.seq = message.seq;
    this.run = message.run;
    this.workers = message.workers;
    Object.assign(this.rounds, message.rounds);
    if ("last_round" in message) {
      for (const number of Object.keys(this.rounds)) if (Number(number) > message.last_round) delete this.rounds[number];
    }
    if (message.boards) this.board(message);
    this.hear(message.events);
  }

  board(message) {
    this.boards = Object.fromEntries(message.boards.map((board) => [board.name, board]));
    this.boardsAt = performance.now();
  }

  hear(events) {
    const last = this.events.at(-1)?.seq ?? 0;
    const fresh = events.filter((event) => event.seq > last);
    this.fresh.push(...fresh);
    this.events = this.events.concat(fresh).slice(-MAX_EVENTS);
  }

  get list() {
    return Object.keys(this.rounds).map(Number).sort((a, b) => a - b).map((number) => this.rounds[number]);
  }

  get over() {
    return isOver(this.run?.state);
  }

  /** Each worker with its part in the newest round, and the newest part that has its bill. */
  get fleet() {
    const rounds = this.list, now = rounds.at(-1);
    const names = new Set([...Object.keys(this.workers), ...(now?.workers ?? []).map((part) => part.name)]);
    const past = new Map();
    for (const round of rounds) {
      for (const part of round.workers) {
        const known = past.get(part.name) ?? { up: 0, down: 0, billed: null };
        known.up += part.bytes_up;
        known.down += part.bytes_down;
        if (part.train_s !== null) known.billed = part;
        past.set(part.name, known);
      }
    }
    return [...names].sort((a, b) => a.localeCompare(b, "en", { numeric: true })).map((name) => {
      const part = now?.workers.find((one) => one.name === name) ?? null;
      const worker = this.workers[name] ?? {}, board = this.over ? null : this.boards[name] ?? null;
      return { name, worker, part, board, ...(past.get(name) ?? { up: 0, down: 0, billed: null }), state: stateOf(worker, part, board, this.run.state) };
    });
  }
}

const isOver = (state) => ["completed", "stopped", "failed"].includes(state);
const BUSY = new Set(["receiving", "training"]);

function stateOf(worker, part, board, run) {
  if (worker.quarantined) return "quarantined";
  if (worker.present === false) return worker.drained ? "left" : run === "waiting" ? "away" : "lost";
  if (worker.drained) return "leaving";
  if (board && !board.connected) return "away";
  return part && !(isOver(run) && BUSY.has(part.state)) ? part.state : "idle";
}

/** States in words, with a shape for each, so that none is told by its colour alone. */
export const GLYPHS = {
  idle: "·", receiving: "↓", training: "◐", done: "✓", lost: "✕", failed: "!", rejected: "⊘", quarantined: "⊘",
  away: "?", leaving: "→", left: "○",
};

/** Sums a round's or a run's parts: {"fp/mac": 1, "fp/dram": 2} by their first word. */
export function byFirst(parts) {
  const sums = {};
  for (const [path, value] of Object.entries(parts ?? {})) {
    const [first, second] = path.split("/");
    if (second !== undefined) sums[first] = (sums[first] ?? 0) + value;
  }
  return sums;
}

/** A figure's parts, summed over rounds. */
export function summed(rounds, name) {
  const sums = {};
  for (const round of rounds) {
    for (const [part, value] of Object.entries(round[name] ?? {})) sums[part] = (sums[part] ?? 0) + value;
  }
  return sums;
}

/** The sum of a figure over rounds; null where no round has it. */
export function total(rounds, name) {
  const known = rounds.map((round) => round[name]).filter((value) => value !== null && value !== undefined);
  return known.length ? known.reduce((a, b) => a + b, 0) : null;
}

/** Rounds whose model has been evaluated. */
export const finished = (rounds) => rounds.filter((round) => round.wall_s !== null);
