// What passes, as the journal streams it: one reader for all pages.
//
// Both sides are bounded. The page keeps the newest FRAMES, and of those no more than BYTES. A hidden page stops
// reading, and soon lets its connection go: a browser has six for one host, and the pages that are seen need them. What
// falls out of the daemon's ring meanwhile, and what passes while nobody records, the daemon counts, and says where it is
// missing. That is shown as missed.

import { exact, get, request } from "./api.js";
import { Ring } from "./ring.js";

const FRAMES = 100_000;
const BYTES = 64 * 1024 * 1024;
/** So long the page reads at a time, before it lets the browser draw. */
const SLICE_MS = 8;
const RETRY_MS = 1000;
/** So long a hidden page keeps its connection: who only looks elsewhere for a moment loses nothing. */
const LET_GO_MS = 3000;

/** What everyone looks at. `status`: connecting, live, hidden or lost. */
export const journal = {
  events: new Ring(FRAMES),
  /** Events that the daemon had no more, and frames that nobody recorded, while this page did not read. */
  missed: 0,
  status: "connecting",
};

let bytes = 0;
/** The number that comes next, once that is known. */
let next = null;
/** What `/v1/state` said when the stream was first begun: what is missing of before then, this page has not missed. */
let begun = null;
/** Of which kind the event is that is being read: a gap, if it says so. */
let kind = "";
/** The number that it has. */
let id = null;
/** Ends the stream. */
let stream = new AbortController();
const listeners = new Set();

/** Calls `listener` with the new events, those that fell out, and whether all is gone; returns how to end that. */
export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function tell(added, fallen, cleared = false) {
  for (const listener of listeners) listener(added, fallen, cleared);
}

function status(now) {
  journal.status = now;
  tell([], 0);
}

/** Forgets what is here; what comes next is shown. */
export function clear() {
  journal.events.clear();
  journal.missed = 0;
  bytes = 0;
  tell([], 0, true);
}

function visible() {
  if (document.visibilityState === "visible") return Promise.resolve();
  return new Promise((resolve) => {
    document.addEventListener("visibilitychange", function shown() {
      if (document.visibilityState !== "visible") return;
      document.removeEventListener("visibilitychange", shown);
      resolve();
    });
  });
}

/** Until the browser has drawn; a page that was hidden meanwhile draws nothing, and need not. */
const drawn = () => new Promise((resolve) => {
  const late = setTimeout(resolve, 100);
  requestAnimationFrame(() => {
    clearTimeout(late);
    setTimeout(resolve);
  });
});

/** Events are missing, up to the one of the number `last`. */
function missing({ count, unrecorded }, last) {
  next = last + 1;
  const since = next - begun.journal.mark;
  if (since > 0) journal.missed += unrecorded + Math.min(count - unrecorded, since);
}

function take(lines) {
  const added = [];
  let fallen = 0;
  const before = journal.missed;
  for (const line of lines) {
    if (line.startsWith("event:")) kind = line.slice(6).trim();
    else if (line.startsWith("id:")) id = Number(line.slice(3));
    if (!line.startsWith("data:")) continue;
    const event = exact(JSON.parse(line.slice(5)));
    if (kind === "gap") {
      kind = "";
      missing(event, id);
      continue;
    }
    next = event.seq + 1;
    event.size = line.length;
    bytes += event.size;
    added.push(event);
    const oldest = journal.events.push(event);
    if (oldest) {
      bytes -= oldest.size;
      fallen += 1;
    }
    while (bytes > BYTES) {
      bytes -= journal.events.shift().size;
      fallen += 1;
    }
  }
  if (added.length > 0 || journal.missed > before) tell(added, fallen);
}

async function read(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    await visible();
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (let at = 0; at < lines.length;) {
      const until = performance.now() + SLICE_MS;
      do {
        take(lines.slice(at, at + 200));
        at += 200;
      } while (at < lines.length && performance.now() < until);
      if (at < lines.length) await drawn();
    }
  }
}

/** Another imd answers here than before: its numbers begin anew. */
function beginAnew() {
  begun = null;
  next = null;
  clear();
}

let hiding = null;
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.visibilityState === "visible") return;
  hiding = setTimeout(() => {
    stream.abort();
    status("hidden");
  }, LET_GO_MS);
});

/** Reads along as long as the page lives. */
export async function follow() {
  for (;;) {
    await visible();
    stream.abort();
    stream = new AbortController();
    const { signal } = stream;
    try {
      const response = await request(`/v1/journal?since=${next ?? 0}&bytes=true`, {
        headers: { accept: "text/event-stream" }, signal,
      });
      if (response.status === 409 && begun) {
        // It has never given out such a number.
        beginAnew();
        continue;
      }
      if (!response.ok) throw new Error(await response.text());
      const state = await get("/v1/state", { signal });
      if (begun && state.instance !== begun.instance) {
        beginAnew();
        continue;
      }
      begun ??= state;
      [kind, id] = ["", null];
      status("live");
      await read(response);
    } catch (error) {
      if (!(error instanceof TypeError) && !signal.aborted) console.warn(error.message);
    }
    if (signal.aborted) continue;
    status("lost");
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}
