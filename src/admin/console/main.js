// The frame around the pages: navigation, language, theme, and the status of the event stream. It mounts the page that the
// address names, one at a time.

import { h, set, write } from "./dom.js";
import { t } from "./words.js";
import { follow, journal, listen } from "./journal.js";
import { notices } from "./notice.js";
import { get } from "./api.js";
import { nextTheme, skipTo, tools } from "./tools.js";
import * as faults from "./faults.js";
import * as help from "./help.js";
import * as stack from "./stack.js";
import * as users from "./users.js";
import * as wire from "./wire.js";

/** The pages, in the order of their keys 1 to 5. `mount(place, path, query)` shows one, and returns a function that ends it. */
const PAGES = { stack, wire, users, faults, help };

const app = document.getElementById("app");
const main = h("main", { id: "main", tabindex: -1 });
let shown = null;
let end = null;

/** Decodes a part of an address. A text that is not encoded correctly is returned unchanged. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Splits an address such as `#/wire?uid=7` into the page, the rest of the path, and the query. */
function route() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/").map(decoded);
  return { name: Object.hasOwn(PAGES, name) ? name : "stack", rest, query: new URLSearchParams(query) };
}

function open() {
  const { name, rest, query } = route();
  end?.();
  shown = name;
  main.className = `page-${name}`;
  set(main);
  end = PAGES[name].mount(main, rest, query);
  document.title = `${t(`page.${name}`)} · imd`;
  for (const link of app.querySelectorAll("nav a")) {
    if (link.dataset.page === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

/** Builds the frame and the page: at the start, and again in another language. */
function frame() {
  const links = Object.keys(PAGES).map((name) =>
    h("a", { href: `#/${name}`, "data-page": name }, t(`page.${name}`)));
  const status = h("span", { id: "status", role: "status" }, h("i", { class: "dot" }), h("span", { class: "text" }));
  set(app,
    skipTo(main),
    h("header", {},
      h("a", { class: "brand", href: "#/stack" },
        h("img", { src: "./console/icon.svg", alt: "", width: 24, height: 24 }), h("b", {}, "imd"),
        h("small", { id: "version" })),
      h("nav", { "aria-label": t("pages") }, links),
      h("div", { class: "tools" }, status, tools(frame))),
    main, notices());
  showStatus();
  get("/version").then(({ version }) => write(document.getElementById("version"), version), () => {});
  open();
}

function showStatus() {
  const status = document.getElementById("status");
  if (!status || status.dataset.is === journal.status) return;
  status.dataset.is = journal.status;
  write(status.querySelector(".text"), t(`status.${journal.status}`));
}

function key(event) {
  const typing = event.target.closest?.("input, select, textarea, dialog");
  if (typing || event.altKey || event.ctrlKey || event.metaKey) return;
  const name = Object.keys(PAGES)[Number(event.key) - 1];
  if (name) location.hash = `#/${name}`;
  else if (event.key === "?") location.hash = "#/help";
  else if (event.key === "t") nextTheme();
  else PAGES[shown].key?.(event);
}

addEventListener("hashchange", open);
addEventListener("keydown", key);
listen(showStatus);
// The stream begins first, so that it runs even if a page fails.
follow();
frame();
