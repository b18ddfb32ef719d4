// Reads the event stream of the journal, once for all pages.
//
// Both sides are bounded. The page keeps the newest FRAMES events, and of those no more than BYTES. A hidden page stops
// reading, and closes its connection soon: a browser opens at most six to one host, which the visible pages need. The daemon
// counts the events that its ring drops meanwhile and those that it does not record, and says in the stream where they are
// missing. The pages show them as missed.

import { exact, get, request } from "./api.js";
import { Ring } from "./ring.js";

const FRAMES = 100_000;
const BYTES = 64 * 1024 * 1024;
/** How long the page handles events at a time before it lets the browser draw. */
const SLICE_MS = 8;
const RETRY_MS = 1000;
/** How long a hidden page keeps its connection, so that nothing is lost if the user only looks elsewhere for a moment. */
const LET_GO_MS = 3000;

/** The state that all pages show. `status` is connecting, live, hidden or lost. */
export const journal = {
  events: new Ring(FRAMES),
  /** How many events this page did not get: the daemon had dropped them before they were read, or had not recorded them. */
  missed: 0,
  status: "connecting",
};

let bytes = 0;
/** The sequence number of the next event, once it is known. */
let next = null;
/** The answer of `/v1/state` when the stream was first opened. Events that were dropped before do not count as missed. */
let begun = null;
/** The kind of the stream's item that is being read: "gap" for missing events. */
let kind = "";
/** The id of the stream's item that is being read: a sequence number. */
let id = null;
/** Ends the stream. */
let stream = new AbortController();
const listeners = new Set();

/**
 * Calls `listener` after each change with the new events, the number of old ones that were dropped, and whether all were
 * cleared. Returns a function that removes the listener.
 */
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

/** Removes all events of the page. Later events are shown. */
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

/** Resolves when the browser has drawn. A page that was hidden meanwhile draws nothing, so the wait is bounded. */
const drawn = () => new Promise((resolve) => {
  const late = setTimeout(resolve, 100);
  requestAnimationFrame(() => {
    clearTimeout(late);
    setTimeout(resolve);
  });
});

/** Counts missing events, the last of which has the sequence number `last`. */
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

/** Starts again with an empty page, since another imd answers at this address, whose sequence numbers begin anew. */
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

/** Reads the stream, and opens it again whenever it ends. Never returns. */
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
        // The API refuses a number that it has never given out: another imd has given it out.
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
