// The frame of the demo: two users side by side, and the gateway that their clients ask. It loads nothing but files of this
// imd. The client itself is imd-client.js, which knows nothing of this page.

import { h, set } from "../console/dom.js";
import { get } from "../console/api.js";
import { notices, say } from "../console/notice.js";
import { skipTo, tools } from "../console/tools.js";
import { t } from "../console/words.js";
import { User } from "./user.js";

/** What a config needs for this page to work, where it is missing. */
const CONFIG = `[gateway]
ws_listen = "127.0.0.1:10100"

[[access]]
name = "access-1"
listen = "127.0.0.1:11000"
ws_listen = "127.0.0.1:11100"`;

const main = h("main", { id: "main", tabindex: -1 });
const gateway = h("input", { id: "gateway", autocomplete: "off", spellcheck: "false", placeholder: "ws://127.0.0.1:10100" });
/** Whether this imd has told that its gateway has no WebSocket address. */
let isMissing = false;

// The address of the page has the users, so that a reload shows them again: #321,654.
const asked = decodeURIComponent(location.hash.slice(1)).split(",");
const users = ["left", "right"].map((side, index) => new User(side, asked[index] || String(index + 1), {
  gateway: () => gateway.value.trim(),
  changed: () => history.replaceState(null, "", `#${users.map(({ uid }) => uid).join()}`),
}));

const isLoopback = (host) => host === "localhost" || host.endsWith(".localhost") || host === "[::1]" || host.startsWith("127.");

/**
 * Returns the address at which this browser finds the gateway. An imd that listens on all addresses tells its own machine's;
 * a phone finds the gateway where it has found this page.
 */
function reachable(told) {
  const url = new URL(told);
  if (isLoopback(url.hostname) && !isLoopback(location.hostname)) url.hostname = location.hostname;
  return url.href.replace(/\/$/, "");
}

/** Builds the page, from the users as they are: at the start, and again in another language. */
function frame() {
  set(app,
    skipTo(main),
    h("header", {},
      h("a", { class: "brand", href: "../" }, h("img", { src: "../console/icon.svg", alt: "", width: 24, height: 24 }),
        h("b", {}, "imd"), h("small", {}, t("demo.name"))),
      h("nav", { "aria-label": t("pages") }, h("a", { href: "../" }, t("demo.console")),
        h("a", { href: "./imd-client.js" }, t("demo.source"))),
      h("div", { class: "tools" }, tools(frame))),
    main, notices());
  set(main,
    h("section", { class: "settings", "aria-label": t("demo.settings") },
      h("label", { class: "field" }, h("span", { class: "label" }, t("demo.gateway")), gateway),
      h("p", { class: "quiet" }, t("demo.why"))),
    isMissing ? h("section", { class: "panel", id: "no-gateway" }, h("p", {}, t("demo.no-gateway")),
      h("pre", { tabindex: 0, "aria-label": "imd.toml" }, CONFIG)) : null,
    h("div", { class: "columns" }, users.map((user) => user.draw())));
  document.title = t("demo.title");
}

const app = document.getElementById("app");
frame();
try {
  const { gateway: { ws: told } } = await get("/v1/state");
  isMissing = !told;
  if (told) gateway.value = reachable(told);
  else frame();
} catch (error) {
  say(error.message, "bad");
}
