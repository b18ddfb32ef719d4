// The page Wire: the events of the journal, filtered and followed. The filters are part of the address, so that a link shows
// the same events.

import { action, say } from "./notice.js";
import { choice, h, set, write } from "./dom.js";
import { clear, journal, listen } from "./journal.js";
import { fields, hex, isError, summary, time } from "./frame.js";
import { get, typedId } from "./api.js";
import { List } from "./list.js";
import { record } from "./record.js";
import { Ring } from "./ring.js";
import { t } from "./words.js";

const WHATS = ["in", "out", "opened", "closed", "fault"];
const ARROWS = { in: "→", out: "←", opened: "+", closed: "×", fault: "!" };
/** The names of the filters in the address. */
const NAMES = ["uid", "session", "cmd", "what", "server", "errors", "text"];

/** Returns a function that tells whether an event passes the filter. */
function taker(filter) {
  const uid = filter.uid === undefined ? null : typedId(filter.uid);
  const session = filter.session === undefined ? null : typedId(filter.session);
  const text = filter.text?.toLowerCase();
  return (event) =>
    (uid === null || event.uid === uid)
    && (session === null || event.session === session)
    && (!filter.cmd || event.cmd === filter.cmd)
    && (!filter.what || event.what === filter.what)
    && (!filter.server || event.server === filter.server)
    && (!filter.errors || isError(event))
    && (!text || `${event.cmd} ${summary(event)} ${JSON.stringify(event.frame)}`.toLowerCase().includes(text));
}

/** Adds a value to a select, unless it offers the value already. In either case the text replaces an earlier one. */
function offer(select, value, text) {
  const known = [...select.options].find((option) => option.value === value);
  if (!known) select.append(h("option", { value }, text ?? value));
  else if (text) write(known, text);
}

function emptyRow() {
  const cells = ["time", "arrow", "server", "session", "uid", "cmd", "summary"].map((name) =>
    h("span", { class: `cell ${name}` }));
  const row = h("div", {}, cells);
  row.cells = cells;
  return row;
}

function showRow(row, event) {
  const texts = [time(event.ms), ARROWS[event.what], event.server, event.session ?? "", event.uid ?? "",
    event.cmd ?? event.what, summary(event)];
  texts.forEach((text, index) => write(row.cells[index], text));
  row.dataset.what = event.what;
  row.classList.toggle("error", isError(event));
}

export function mount(place, _, query) {
  const filter = Object.fromEntries(NAMES.filter((name) => query.has(name)).map((name) => [name, query.get(name)]));
  let takes = taker(filter);
  let view = new Ring(journal.events.limit);
  /** The sequence number of the newest event that is shown while the list is paused; Infinity while it is not. */
  let held = Infinity;
  let waiting = 0;
  let typed = null;

  const counts = h("span", { id: "wire-count", class: "quiet" });
  const missed = h("span", { id: "wire-missed", class: "badge warn", title: t("wire.missed.title") });
  const details = h("aside", { id: "wire-details", hidden: true, "aria-label": t("wire.details") });
  const list = new List({ label: t("page.wire"), make: emptyRow, show: showRow, open: show });
  list.element.id = "wire-list";

  function count() {
    const texts = [t("wire.count", view.length.toLocaleString(), journal.events.length.toLocaleString())];
    if (waiting > 0) texts.push(t("wire.waiting", waiting.toLocaleString()));
    write(counts, texts.join(" · "));
    missed.hidden = journal.missed === 0;
    write(missed, t("wire.missed", journal.missed.toLocaleString()));
    empty.hidden = view.length > 0;
  }

  function rebuild() {
    view = new Ring(journal.events.limit);
    waiting = 0;
    for (const event of journal.events) {
      if (!takes(event)) continue;
      if (event.seq > held) waiting += 1;
      else view.push(event);
    }
    list.update(view);
    count();
  }

  function refilter() {
    for (const name of NAMES) if (!filter[name]) delete filter[name];
    takes = taker(filter);
    const written = new URLSearchParams(filter).toString();
    history.replaceState(null, "", `#/wire${written ? `?${written}` : ""}`);
    rebuild();
  }

  /** Makes an input change the filter `name`. */
  function narrows(name, input) {
    input.id = `wire-${name}`;
    input.setAttribute("aria-label", t(`wire.${name}`));
    input.addEventListener(input.tagName === "SELECT" || input.type === "checkbox" ? "change" : "input", () => {
      filter[name] = input.type === "checkbox" ? (input.checked ? "1" : "") : input.value.trim();
      clearTimeout(typed);
      typed = setTimeout(refilter, input.type === "search" ? 150 : 0);
    });
    return input;
  }

  const number = (name) => narrows(name, h("input", {
    type: "search", inputmode: "numeric", placeholder: t(`wire.${name}`), class: "narrow", value: filter[name] ?? "",
  }));
  const cmds = choice([["", t("wire.cmd")]], "");
  const servers = choice([["", t("wire.server")]], "");
  const whats = choice([["", t("wire.what")], ...WHATS.map((what) => [what, t(`what.${what}`)])], "");
  // A value from the address is offered even if it does not exist, or no longer, so that the filter in force is visible.
  for (const [select, value] of [[cmds, filter.cmd], [servers, filter.server], [whats, filter.what]]) {
    offer(select, value ?? "");
    select.value = value ?? "";
  }
  const errors = h("input", { type: "checkbox", checked: Boolean(filter.errors) });
  const search = h("input", { type: "search", placeholder: t("wire.text"), value: filter.text ?? "" });
  const followed = h("input", { type: "checkbox", id: "wire-follow", checked: true,
    onchange: () => list.follow(followed.checked) });
  list.onfollow = (on) => {
    followed.checked = on;
  };
  const pauses = h("button", { id: "wire-pause", type: "button", "aria-pressed": false, onclick: pause }, t("wire.pause"));
  const empty = h("p", { class: "empty", id: "wire-empty" }, t("wire.empty"));

  function pause() {
    const paused = held === Infinity;
    held = paused ? journal.events.at(journal.events.length - 1)?.seq ?? -1 : Infinity;
    pauses.setAttribute("aria-pressed", paused);
    write(pauses, paused ? t("wire.resume") : t("wire.pause"));
    if (!paused) rebuild();
  }

  function show(event) {
    details.hidden = !event;
    if (!event) return set(details);
    const session = h("dd", {}, event.session ?? "–");
    set(details,
      h("div", { class: "head" }, h("h2", {}, event.cmd ?? t(`what.${event.what}`)),
        h("button", { class: "plain", id: "wire-close", "aria-label": t("close"), onclick: () => {
          list.choose(null);
          list.element.focus();
        } }, "×")),
      h("dl", { class: "fields" },
        h("dt", {}, t("wire.number")), h("dd", {}, event.seq),
        h("dt", {}, t("wire.time")), h("dd", {}, time(event.ms)),
        h("dt", {}, t("wire.what")), h("dd", {}, t(`what.${event.what}`)),
        h("dt", {}, t("wire.server")), h("dd", {}, event.server),
        h("dt", {}, t("wire.session")), session,
        h("dt", {}, "uid"), h("dd", {}, event.uid ?? "–")),
      event.what === "in" || event.what === "out" ? null : h("p", {}, summary(event)),
      h("h3", {}, t("wire.fields")), fields(event),
      event.bytes ? [h("h3", {}, t("wire.hex", event.bytes.length / 2)), h("pre", { class: "hex", tabindex: 0 }, hex(event.bytes))] : null);
    if (event.session !== null) describeSession(event, session);
  }

  async function describeSession(event, cell) {
    const only = h("a", { href: `#/wire?session=${event.session}` }, t("wire.only", event.session));
    set(cell, only);
    try {
      const { sessions: [first] } = await get(`/v1/sessions?after=${event.session - 1}&limit=1`);
      const found = first?.id === event.session ? first : null;
      const about = found
        ? t("wire.session.open", found.peer, found.uid ?? "–")
        : t("wire.session.gone");
      if (cell.isConnected) set(cell, only, h("small", { class: "quiet block" }, about));
    } catch (error) {
      say(error.message, "bad");
    }
  }

  async function save() {
    const { version } = await get("/version");
    const url = URL.createObjectURL(new Blob(record(view, version), { type: "application/x-ndjson" }));
    h("a", { href: url, download: "imd.rec" }).click();
    // Revoked late, when the browser has certainly read it.
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }

  place.append(
    h("div", { class: "bar", role: "search" },
      number("uid"), number("session"), narrows("cmd", cmds),
      narrows("what", whats), narrows("server", servers), narrows("text", search),
      h("label", { class: "check" }, narrows("errors", errors), t("wire.errors")),
      h("span", { class: "space" }),
      h("label", { class: "check" }, followed, t("wire.follow")),
      pauses,
      h("button", { id: "wire-clear", type: "button", onclick: clear }, t("wire.clear")),
      action(t("wire.export"), save, { id: "wire-export", title: t("wire.export.title"), done: () => t("wire.exported") })),
    h("div", { class: "split" }, h("div", { class: "table" }, list.element, empty), details),
    h("div", { class: "foot" }, counts, missed));

  get("/v1/menu").then(({ cmds: known }) => {
    for (const { name, number: code } of known) offer(cmds, name, `${name} ${code}`);
  }, (error) => say(error.message, "bad"));
  get("/v1/state").then(({ access }) => {
    for (const name of ["gateway", ...access.map((server) => server.name)]) offer(servers, name);
  }, () => {});
  const met = new Set();
  function meet(events) {
    for (const { server } of events) {
      if (met.has(server)) continue;
      met.add(server);
      offer(servers, server);
    }
  }

  meet(journal.events);
  rebuild();
  const unlisten = listen((added, fallen, cleared) => {
    meet(added);
    if (cleared) {
      if (held < Infinity) held = -1;
      return rebuild();
    }
    if (held < Infinity) {
      waiting += added.filter(takes).length;
      return count();
    }
    const oldest = journal.events.at(0)?.seq ?? 0;
    let gone = 0;
    for (const event of added) if (takes(event) && view.push(event)) gone += 1;
    if (fallen > 0) while (view.length > 0 && view.at(0).seq < oldest) {
      view.shift();
      gone += 1;
    }
    list.update(view, gone);
    count();
  });
  keys = {
    "/": () => search.focus(),
    Escape: () => list.choose(null),
    f: () => followed.click(),
    p: pause,
    c: clear,
  };
  return () => {
    unlisten();
    clearTimeout(typed);
    list.end();
    keys = {};
  };
}

let keys = {};

/** Handles a key that the frame does not use. */
export function key(event) {
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
}
