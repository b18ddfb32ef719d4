// What passes, as the journal streams it: one reader for all pages.
//
// Both sides are bounded. The page keeps the newest FRAMES, and of those no more than BYTES. A hidden page stops
// reading: what its socket does not take stays in the daemon's own ring, from which the oldest fall out. What was missed
// that way shows as a gap in the events' numbers, and is counted.

import { get, request } from "./api.js";
import { Ring } from "./ring.js";

const FRAMES = 100_000;
const BYTES = 64 * 1024 * 1024;
/** So long the page reads at a time, before it lets the browser draw. */
const SLICE_MS = 8;
const RETRY_MS = 1000;

/** What everyone looks at. `status`: connecting, live or lost. */
export const journal = {
  events: new Ring(FRAMES),
  /** Events that the daemon had no more when this page asked for them. */
  missed: 0,
  status: "connecting",
};

let bytes = 0;
let last = -1;
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

function take(lines) {
  const added = [];
  let fallen = 0;
  for (const line of lines) {
    if (!line.startsWith("data:")) continue;
    const event = JSON.parse(line.slice(5));
    if (last >= 0 && event.seq > last + 1) journal.missed += event.seq - last - 1;
    last = event.seq;
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
  if (added.length > 0) tell(added, fallen);
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

/** Reads along as long as the page lives. */
export async function follow() {
  for (;;) {
    await visible();
    try {
      const state = await get("/v1/state");
      if (state.journal.mark <= last) {
        // Another imd answers here now: its numbers begin anew.
        last = -1;
        clear();
      }
      const response = await request(`/v1/journal?since=${last + 1}&bytes=true`, {
        headers: { accept: "text/event-stream" },
      });
      if (!response.ok) throw new Error(await response.text());
      status("live");
      await read(response);
    } catch (error) {
      if (!(error instanceof TypeError)) console.warn(error.message);
    }
    status("lost");
    await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
  }
}
