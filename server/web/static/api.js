// Talking to the aggregator: plain requests, and the stream that is taken up again where it broke.

const RETRY_MS = 1500;

export class Refused extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

async function answer(response) {
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(response.status, body.error ?? `the aggregator said ${response.status}`);
  return body;
}

export const get = async (path) => answer(await fetch(path, { cache: "no-store" }));

export const post = async (path, body = "") =>
  answer(await fetch(path, { method: "POST", body, headers: { "X-NeuroFed": "1" } }));

export const ofRun = (id, what) => `/api/runs/${encodeURIComponent(id)}/${what}`;

/**
 * Follow a run. `told` has a function for each kind of message (news, boards, end) and `state` ("live", "lost").
 * Returns a function that ends it.
 */
export function follow(id, told) {
  let source = null, last = "", timer = 0, over = false;
  const open = () => {
    source = new EventSource(ofRun(id, "events") + (last ? `?after=${encodeURIComponent(last)}` : ""));
    source.onopen = () => told.state("live");
    source.onerror = () => {
      if (over) return;
      told.state("lost");
      source.close(); // we choose when, and say what we have
      clearTimeout(timer);
      timer = setTimeout(open, RETRY_MS);
    };
    const hear = (kind) => source.addEventListener(kind, (message) => {
      if (message.lastEventId) last = message.lastEventId;
      told[kind](JSON.parse(message.data));
    });
    ["news", "events", "boards"].forEach(hear);
    source.addEventListener("end", () => {
      over = true;
      source.close();
      told.state("over");
    });
  };
  open();
  return () => {
    over = true;
    clearTimeout(timer);
    source.close();
  };
}
