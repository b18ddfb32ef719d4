// The page Stack: a drawing of the servers, the operations on the access servers, and charts of the metrics.

import { action, attempt, say } from "./notice.js";
import { get, part, post, remove, request } from "./api.js";
import { h, set, write } from "./dom.js";
import { parse, quantile, rate, short, size, span, sum } from "./metrics.js";
import { Chart } from "./chart.js";
import { Drawing } from "./drawing.js";
import { listen } from "./journal.js";
import { t } from "./words.js";

const EVERY_MS = 1000;
/** The operations that each state of an access server allows. */
const DOES = {
  running: ["kill", "stop", "pause"],
  paused: ["resume", "kill", "stop"],
  stopped: ["restart"],
  killed: ["restart"],
};
const SESSIONS = 50;

function charts() {
  const one = (id, show, ...series) =>
    new Chart({ id, title: t(`chart.${id}`), show, series: series.map(([name, label]) => ({ name, label })) });
  return {
    frames: one("frames", short, ["in", t("chart.in")], ["out", t("chart.out")]),
    messages: one("messages", short, ["stored"]),
    latency: one("latency", span, ["p50", "p50"], ["p99", "p99"]),
    commit: one("commit", span, ["p50", "p50"], ["p99", "p99"]),
    accepts: one("accepts", short, ["accepts"]),
    memory: one("memory", size, ["bytes"]),
  };
}

/** Returns the values of each chart, from two measurements of the metrics that are `seconds` apart. */
function values(before, now, seconds) {
  const per = (name, labels) => rate(before, now, seconds, name, labels);
  return {
    frames: { in: per("imd_frames_total", { direction: "in" }), out: per("imd_frames_total", { direction: "out" }) },
    messages: { stored: per("imd_messages_stored_total") },
    latency: quantiles(before, now, "imd_request_seconds"),
    commit: quantiles(before, now, "imd_commit_seconds"),
    accepts: { accepts: per("imd_accepts_total") },
    memory: { bytes: sum(now, "process_resident_memory_bytes") },
  };
}

function quantiles(before, now, name) {
  return { p50: quantile(before, now, name, 0.5), p99: quantile(before, now, name, 0.99) };
}

export function mount(place) {
  const drawn = charts();
  const cards = new Map();
  let leases = new Map();
  let metrics = null;
  let looked = 0;
  let timer = null;
  let ended = false;

  const gateway = h("div", { class: "part", "data-part": "gateway" });
  const clients = h("div", { class: "part", "data-part": "clients" });
  const registry = h("div", { class: "part", "data-part": "registry" });
  const store = h("div", { class: "part", "data-part": "store" });
  const servers = h("div", { class: "servers" });
  const name = h("input", { id: "add-name", required: true, placeholder: "access-4", "aria-label": t("stack.add.name"), autocomplete: "off" });
  const adding = h("button", { type: "submit" }, t("stack.add"));
  const add = h("form", { class: "add", onsubmit: (event) => {
    event.preventDefault();
    const wanted = name.value.trim();
    attempt(adding, () => post("/v1/access", { name: wanted }), t("done.add", wanted)).then((done) => {
      if (done) name.value = "";
      look();
    });
  } }, name, adding);
  const figure = h("section", { class: "drawing", "aria-label": t("stack.drawing") },
    h("div", { class: "column" }, clients),
    h("div", { class: "column" }, gateway, servers, add),
    h("div", { class: "column" }, registry, store));
  const drawing = new Drawing(figure);
  const without = h("p", { class: "empty", id: "no-metrics", hidden: true });
  const all = h("section", { class: "charts", "aria-label": t("stack.charts") },
    Object.values(drawn).map(({ element }) => element));
  place.append(figure, h("h2", {}, t("stack.charts")), without, all);

  /** Fills a part of the drawing with a title, and with lines of a name and a value. */
  function fill(element, title, lines, ...more) {
    const key = JSON.stringify([title, lines]);
    if (element.dataset.key === key) return;
    element.dataset.key = key;
    set(element, h("h3", {}, title),
      h("dl", {}, lines.map(([label, text]) => [h("dt", {}, label), h("dd", {}, text)])), ...more);
  }

  function card(server) {
    const known = cards.get(server.name);
    if (known) return known;
    const lease = h("progress", { max: 1, value: 0, "aria-label": t("stack.lease") });
    const left = h("span", { class: "left" });
    const state = h("span", { class: "state" });
    const about = h("span", { class: "about quiet" });
    const buttons = h("div", { class: "actions" });
    const open = h("button", { class: "plain link", type: "button", "aria-expanded": false, onclick: () => toggle(made) });
    const sessions = h("div", { class: "sessions", hidden: true });
    const element = h("article", { class: "part server", "data-part": server.name, "aria-label": server.name },
      h("div", { class: "head" }, h("h3", {}, server.name), about, state),
      h("div", { class: "lease" }, lease, left),
      h("div", { class: "head" }, open, buttons), sessions);
    const made = { name: server.name, element, lease, left, state, about, buttons, open, sessions };
    cards.set(server.name, made);
    servers.append(element);
    return made;
  }

  function act(server, what) {
    return action(t(`do.${what}`), async () => {
      const told = await post(`/v1/access/${part(server)}/${what}`);
      await look();
      return told;
    }, { class: `small ${what === "kill" ? "danger" : ""}`, "data-do": what, title: t(`do.${what}.title`), done: t(`done.${what}`, server) });
  }

  /** Shows an access server in its card. `lease` is how long a lease lasts, in seconds. */
  function showServer(server, lease) {
    const made = card(server);
    if (made.state.dataset.is !== server.state) {
      made.state.dataset.is = server.state;
      write(made.state, t(`state.${server.state}`));
      set(made.buttons, DOES[server.state].map((what) => act(server.name, what)));
    }
    write(made.about, server.advertised === server.addr
      ? server.addr : t("stack.advertised", server.addr, server.advertised));
    if (made.count !== server.sessions) {
      made.count = server.sessions;
      write(made.open, t("stack.sessions", server.sessions));
      if (!made.sessions.hidden) attempt(null, () => showSessions(made));
    }
    const left = leases.get(server.name);
    made.lease.hidden = left === undefined;
    if (left !== undefined) {
      made.lease.value = left / lease;
      if (made.before !== undefined && left > made.before + 0.5) drawing.move(server.name, "registry", "beat");
    }
    made.before = left;
    made.element.classList.toggle("expiring", left !== undefined && left < 0.4 * lease);
    write(made.left, left === undefined ? t("stack.lease.none") : t("stack.lease.left", left.toFixed(1)));
  }

  async function toggle(made) {
    made.sessions.hidden = !made.sessions.hidden;
    made.open.setAttribute("aria-expanded", !made.sessions.hidden);
    if (!made.sessions.hidden) await attempt(null, () => showSessions(made));
    drawing.lay();
  }

  async function showSessions(made) {
    const { sessions: own } = await get(`/v1/sessions?server=${part(made.name)}&limit=${SESSIONS}`);
    const ending = (session, how) => action(t(`end.${how}`), async () => {
      await remove(`/v1/sessions/${session.id}?how=${how}`);
      await showSessions(made);
    }, { class: "small", title: t(`end.${how}.title`), done: t("done.end", session.id) });
    set(made.sessions,
      own.length === 0 ? h("p", { class: "quiet" }, t("stack.sessions.none")) : null,
      own.map((session) => h("div", { class: "seat" },
        h("a", { href: `#/wire?session=${session.id}` }, `#${session.id}`), ` ${session.uid ?? "–"} `,
        h("span", { class: "quiet" }, session.peer),
        h("span", { class: "actions" }, ["fin", "rst", "halfopen"].map((how) => ending(session, how))))),
      made.count > SESSIONS ? h("p", { class: "quiet" }, t("stack.sessions.more", made.count - SESSIONS)) : null);
  }

  function show(state) {
    const online = state.gateway.sessions + state.access.reduce((total, { sessions }) => total + sessions, 0);
    fill(clients, t("stack.clients"), [[t("stack.connections"), online]]);
    fill(gateway, t("stack.gateway"), [[t("stack.addr"), state.gateway.addr], [t("stack.connections"), state.gateway.sessions]]);
    const listed = state.registry.records.map((record) => record.Name).join(", ") || t("stack.registry.empty");
    const frozen = state.registry.frozen;
    fill(registry, t("stack.registry"), [[t("stack.listed"), listed], [t("stack.told"), t(frozen ? "stack.frozen" : "stack.live")]],
      h("div", { class: "actions" }, action(t(frozen ? "do.thaw" : "do.freeze"), async () => {
        await post(`/v1/registry/${frozen ? "thaw" : "freeze"}`);
        await look();
      }, { class: "small", "data-do": frozen ? "thaw" : "freeze", done: t(frozen ? "done.thaw" : "done.freeze") })));
    const { stored, delivered, removed, refused, lost } = state.ledger;
    fill(store, t("stack.store"), [[t("stack.kind"), state.store], [t("stack.stored"), stored],
      [t("stack.delivered"), delivered], [t("stack.pending"), Math.max(0, stored - delivered - removed)],
      [t("stack.refused"), refused], [t("stack.lost"), lost]]);
    for (const server of state.access) showServer(server, state.registry.lease_ms / 1000);
    const names = new Set(state.access.map(({ name: server }) => server));
    for (const [server, { element }] of cards) {
      if (names.has(server)) continue;
      // Servers are never removed from a stack, so another imd answers at this address now.
      cards.delete(server);
      element.remove();
    }
    drawing.join([["clients", "gateway", "main"], ["gateway", "registry", "dashed"],
      ...state.access.flatMap(({ name: server, state: is }) =>
        [["clients", server, is], [server, "registry", "dashed"], [server, "store", is]])]);
    drawing.lay();
  }

  async function measure() {
    // Buttons ask for a look in between. A rate over so short a time would be meaningless.
    if (performance.now() - looked < EVERY_MS / 2) return;
    const response = await request("/metrics");
    if (!response.ok) throw new Error(t("stack.no-metrics"));
    const now = parse(await response.text());
    const at = performance.now();
    leases = new Map((now.get("imd_lease_remaining_seconds") ?? []).map(({ labels, value }) => [labels.server, value]));
    if (metrics) {
      const shown = values(metrics, now, (at - looked) / 1000);
      for (const [id, chart] of Object.entries(drawn)) chart.push(shown[id]);
    }
    [metrics, looked] = [now, at];
  }

  /** Shows the present state. If the metrics can't be read, the reason is shown in place of the charts. */
  async function look() {
    clearTimeout(timer);
    if (document.visibilityState === "visible") {
      const measured = measure().then(() => "", (error) => error.message).then((why) => {
        without.hidden = !why;
        all.hidden = Boolean(why);
        write(without, why);
      });
      try {
        const [state] = await Promise.all([get("/v1/state"), measured]);
        if (!ended) show(state);
      } catch (error) {
        if (!(error instanceof TypeError)) say(error.message, "bad");
      }
    }
    clearTimeout(timer);
    if (!ended) timer = setTimeout(look, EVERY_MS);
  }

  look();
  const unlisten = listen((added) => {
    for (const event of added.slice(-40)) moved(drawing, event);
  });
  return () => {
    ended = true;
    clearTimeout(timer);
    unlisten();
    drawing.end();
  };
}

/** Moves the dots that stand for an event. */
function moved(drawing, event) {
  const { what, server, cmd } = event;
  if (what === "in") {
    drawing.move("clients", server, "in");
    if (cmd === "SendP2PMsg" || cmd === "SendGroupMsg" || cmd === "AcceptP2PMsgAck") drawing.move(server, "store", "in");
  } else if (what === "out") {
    drawing.move(server, "clients", cmd === "Notify" ? "notify" : "out");
    if (cmd === "SyncMsg") drawing.move("store", server, "out");
  } else if (what === "fault") drawing.move(server, "clients", "fault");
}
