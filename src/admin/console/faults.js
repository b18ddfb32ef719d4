// The page Faults: the faults in force, a form to inject one, the clock, and the quirks.

import { action, attempt, say } from "./notice.js";
import { choice, field, h, set, write } from "./dom.js";
import { get, part, post, remove } from "./api.js";
import { quirks } from "./quirks.js";
import { t } from "./words.js";

const EVERY_MS = 1000;
/** The most faults that one answer of the API holds. */
const PAGE = 1000;
/** The key of the rules that the user has switched off. The browser keeps them, since the daemon has removed them. */
const OFF = "imd.faults.off";

/** The presets: common failures by name, each with the rule that causes it. */
const MENU = [
  ["reply-lost", { at: "access.reply", times: 1, drop: true }],
  ["reply-late", { at: "access.reply", delay: "2s" }],
  ["reply-twice", { at: "access.reply", duplicate: true }],
  ["reply-order", { at: "access.reply", reorder: true, times: 1 }],
  ["request-refused", { at: "access.request", error: 90001 }],
  ["done-but-error", { at: "access.reply", error: 90001 }],
  ["notify-lost", { at: "notify", drop: true }],
  ["notify-gap", { at: "notify", gap: true }],
  ["reset", { at: "access.reply", reset: true, times: 1 }],
  ["truncate", { at: "access.reply", truncate: true, times: 1 }],
  ["half-open", { at: "access.reply", half_open: true, times: 1 }],
  ["slow-line", { at: "access.reply", throttle: 100 }],
  ["sliced", { at: "access.reply", slice: 1 }],
  ["accept-reset", { at: "access.accept", reset: true }],
  ["login-refused", { at: "access.login", error: 93002 }],
  ["gateway-stale", { at: "gateway.reply", stale: true }],
  ["heartbeat-lost", { at: "registry.lease", drop: true }],
  ["store-slow", { at: "store.write", delay: "2s" }],
  ["store-full", { at: "store.write", error: 90001 }],
  ["store-lies", { at: "store.write", drop: true }],
  ["page-old", { at: "store.read", stale: true }],
  ["page-gap", { at: "store.read", gap: true }],
  ["id-again", { at: "idgen.next", duplicate: true }],
];

/** The actions that have a value, with the value that the form suggests. */
const PARAMETERS = { delay: "2s", error: "90001", throttle: "100", slice: "1" };
/** The keys whose values the API takes as numbers only. For the others it takes texts too. */
const NUMBERS = ["probability", "slice", "error"];

/** Returns the rules that were switched off. Entries that are damaged or not from this page are ignored. */
function kept() {
  try {
    const rules = JSON.parse(localStorage.getItem(OFF) ?? "[]");
    return Array.isArray(rules) ? rules.filter((rule) => typeof rule?.name === "string") : [];
  } catch {
    return [];
  }
}

function keep(rules) {
  localStorage.setItem(OFF, JSON.stringify(rules));
}

/** The order in which the keys of a rule are shown: site, filters and limits. The action comes last. */
const ORDER = ["at", "uid", "access", "session", "cmd", "direction", "after", "times", "probability", "for"];

/** Gets all faults in force, page by page. A page that is not full is the last one; the next one begins after a name. */
async function allFaults() {
  const all = [];
  for (let page = null; page === null || page.length === PAGE; all.push(...page)) {
    page = await get(`/v1/faults?limit=${PAGE}${all.length > 0 ? `&after=${part(all.at(-1).name)}` : ""}`);
  }
  return all;
}

/** Returns a rule as one line for people, without its name and its hits. */
function told(rule) {
  const { name, hits, ...rest } = rule;
  const place = (key) => (ORDER.includes(key) ? ORDER.indexOf(key) : ORDER.length);
  const entries = Object.entries(rest).sort(([one], [other]) => place(one) - place(other));
  return entries.map(([key, value]) => (value === true ? key : `${key} ${value}`)).join("  ");
}

export function mount(place) {
  const rules = h("div", { id: "rules" });
  const form = h("form", { id: "fault-form", class: "panel" });
  const presets = h("div", { class: "presets", role: "group", "aria-label": t("faults.menu") });
  const clock = h("section", { class: "panel", id: "clock" });
  let menu = null;
  let timer = null;
  let ended = false;

  place.append(
    h("section", {}, h("div", { class: "head" }, h("h2", {}, t("faults.active")),
      action(t("faults.clear"), async () => {
        await fetchAll(() => remove("/v1/faults"));
      }, { class: "small danger", id: "faults-clear", done: t("faults.cleared") })), rules),
    h("section", {}, h("h2", {}, t("faults.menu")), h("p", { class: "quiet" }, t("faults.menu.why")), presets, form),
    h("section", {}, h("h2", {}, t("clock.title")), clock),
    h("section", {}, h("h2", {}, t("quirks.title")), h("p", { class: "quiet" }, t("quirks.why")), quirks()));

  /** Awaits a change, and shows the faults again. */
  async function fetchAll(act) {
    await act();
    await look();
  }

  function rule(one, on) {
    const name = one.name;
    const flip = h("input", { type: "checkbox", role: "switch", checked: on, "aria-label": t("faults.switch", name),
      onchange: () => attempt(null, () => fetchAll(on ? () => off(one) : () => again(one)),
        t(on ? "faults.off" : "faults.on", name)).then((done) => {
        if (!done) flip.checked = on;
      }) });
    return h("div", { class: `rule ${on ? "" : "is-off"}`, "data-rule": name }, flip,
      h("div", { class: "what" }, h("b", {}, name), h("code", {}, told(one))),
      h("span", { class: "hits" }, on ? t("faults.hits", one.hits) : t("faults.is-off")),
      action(t("faults.remove"), () => fetchAll(() => gone(one, on)), { class: "small", done: t("faults.removed", name) }));
  }

  async function off(one) {
    await remove(`/v1/faults/${part(one.name)}`);
    keep([...kept().filter(({ name }) => name !== one.name), one]);
  }

  async function again(one) {
    const { hits, ...fault } = one;
    await post("/v1/faults", fault);
    keep(kept().filter(({ name }) => name !== one.name));
  }

  async function gone(one, on) {
    if (on) await remove(`/v1/faults/${part(one.name)}`);
    else keep(kept().filter(({ name }) => name !== one.name));
  }

  let shown = "";
  function showRules(active) {
    const names = new Set(active.map(({ name }) => name));
    const sleeping = kept().filter(({ name }) => !names.has(name));
    const now = JSON.stringify([active.map(({ hits, ...fault }) => fault), sleeping]);
    if (now === shown) {
      for (const { name, hits } of active) {
        write(rules.querySelector(`[data-rule="${CSS.escape(name)}"] .hits`), t("faults.hits", hits));
      }
      return;
    }
    shown = now;
    set(rules, active.map((one) => rule(one, true)), sleeping.map((one) => rule(one, false)),
      active.length + sleeping.length === 0 ? h("p", { class: "empty" }, t("faults.none")) : null);
  }

  /** Builds the form for the site of a rule, and fills it with the values of the rule. */
  function build(fault) {
    const site = menu.sites.find(({ name }) => name === fault.at);
    const acts = site.actions;
    const chosen = acts.find((name) => fault[name] !== undefined) ?? acts[0];
    const sites = choice(menu.sites.map(({ name }) => [name, `${name} – ${t(`site.${name}`)}`]), fault.at, {
      name: "at", onchange: () => build({ at: sites.value }) });
    const does = choice(acts.map((name) => [name, `${name} – ${t(`action.${name}`)}`]), chosen, {
      name: "action", onchange: () => build({ ...read(), ...Object.fromEntries(acts.map((name) => [name, undefined])), at: fault.at, [does.value]: PARAMETERS[does.value] ?? true }) });
    const text = (name, placeholder, props) => field(t(`fault.${name}`),
      h("input", { name, value: fault[name] ?? "", placeholder, autocomplete: "off", ...props }));
    const codes = () => choice(menu.codes.filter(({ number }) => number > 0).map((code) =>
      [code.number, `${code.number} ${code.text}`]), fault.error ?? PARAMETERS.error, { name: "error" });
    const parameter = {
      delay: () => [text("delay", t("fault.duration"), { required: true, value: fault.delay ?? PARAMETERS.delay }), text("jitter", t("fault.duration"))],
      error: () => field(t("fault.error"), codes()),
      throttle: () => text("throttle", "", { required: true, inputmode: "numeric", value: fault.throttle ?? PARAMETERS.throttle }),
      slice: () => text("slice", "", { required: true, inputmode: "numeric", value: fault.slice ?? PARAMETERS.slice }),
    }[chosen];
    const passing = menu.cmds.filter(({ name }) => site.cmds.includes(name));
    const cmds = () => choice([["", t("fault.any")], ...passing.map((cmd) => [cmd.name, `${cmd.name} ${cmd.number}`])],
      fault.cmd ?? "", { name: "cmd" });
    set(form,
      h("fieldset", {}, h("legend", {}, t("faults.what")), field(t("fault.at"), sites), field(t("fault.action"), does), parameter?.()),
      h("fieldset", {}, h("legend", {}, t("faults.whom")),
        site.has_user ? text("uid", t("fault.any"), { inputmode: "numeric" }) : null,
        site.has_frames ? field(t("fault.cmd"), cmds()) : null,
        site.has_access ? text("access", t("fault.any")) : null,
        site.has_frames ? text("session", t("fault.any"), { inputmode: "numeric" }) : null),
      h("fieldset", {}, h("legend", {}, t("faults.when")),
        text("times", t("fault.times.hint"), { inputmode: "numeric" }), text("after", t("fault.after.hint"), { inputmode: "numeric" }),
        text("probability", t("fault.probability.hint"), { inputmode: "decimal" }), text("for", t("fault.duration")),
        text("name", t("fault.name.hint"))),
      h("div", { class: "actions" }, h("button", { type: "submit", class: "primary", id: "inject" }, t("faults.inject"))));
  }

  /** Returns the rule that the form describes. */
  function read() {
    const fault = {};
    for (const [key, value] of new FormData(form)) {
      const text = value.trim();
      if (text === "" || key === "action") continue;
      // A text that should be a number is sent unchanged, so that the API refuses it with a reason.
      fault[key] = NUMBERS.includes(key) && Number.isFinite(Number(text)) ? Number(text) : text;
    }
    const does = form.elements.action.value;
    fault[does] ??= true;
    return fault;
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(form.querySelector("#inject"), async () => {
      const made = await post("/v1/faults", read());
      await look();
      return made;
    }, ({ name }) => t("faults.injected", name));
  });

  const times = clockForms(clock, () => look());

  async function look() {
    clearTimeout(timer);
    if (document.visibilityState === "visible") {
      try {
        const [active, now] = await Promise.all([allFaults(), get("/v1/clock")]);
        if (!ended) {
          showRules(active);
          times(now);
        }
      } catch (error) {
        if (!(error instanceof TypeError)) say(error.message, "bad");
      }
    }
    clearTimeout(timer);
    if (!ended) timer = setTimeout(look, EVERY_MS);
  }

  attempt(null, async () => {
    menu = await get("/v1/menu");
    set(presets, MENU.map(([name, fault]) => h("button", { type: "button", "data-preset": name, "aria-pressed": false, onclick: () => {
      build(fault);
      for (const one of presets.children) one.setAttribute("aria-pressed", one.dataset.preset === name);
      form.querySelector("#inject").focus();
    } }, t(`menu.${name}`))));
    build({ at: "access.reply", drop: true });
  });
  look();
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}

/** Adds the forms that move the clock to `place`. Returns a function that shows the time of a clock. */
function clockForms(place, look) {
  const [kind, wall, up] = [h("dd", { id: "clock-kind" }), h("dd", { id: "clock-wall" }), h("dd", { id: "clock-up" })];
  const why = h("p", { class: "quiet" }, t("clock.real.why"));
  const by = h("input", { id: "advance-by", value: "11s", required: true });
  const ms = h("input", { id: "skew-ms", value: "-3600000", required: true, inputmode: "numeric" });
  const advance = h("button", { type: "submit", id: "advance" }, t("clock.advance"));
  const skew = h("button", { type: "submit", id: "skew" }, t("clock.skew"));
  const form = (button, input, label, path, body, done) => h("form", { class: "inline", onsubmit: (event) => {
    event.preventDefault();
    attempt(button, async () => {
      await post(path, body());
      await look();
    }, done);
  } }, field(label, input), button);
  set(place,
    h("dl", { class: "fields" }, h("dt", {}, t("clock.kind")), kind, h("dt", {}, t("clock.wall")), wall, h("dt", {}, t("clock.up")), up),
    form(advance, by, t("clock.by"), "/v1/clock/advance", () => ({ by: by.value.trim() }), () => t("clock.advanced", by.value)),
    why,
    form(skew, ms, t("clock.ms"), "/v1/clock/skew", () => ({ ms: Number(ms.value) }), () => t("clock.skewed", ms.value)));
  return (now) => {
    write(kind, t(`clock.${now.kind}`));
    write(wall, new Date(now.unix_ms).toLocaleString());
    write(up, `${(now.now_ms / 1000).toFixed(1)} s`);
    const manual = now.kind === "manual";
    why.hidden = manual;
    by.disabled = !manual;
    if (advance.disabled === manual) advance.disabled = !manual;
  };
}
