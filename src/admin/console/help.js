// The page Help: the addresses of the stack, tokens, examples of clients, the keys of the console, and the differences from
// the original stack.

import { attempt, copier } from "./notice.js";
import { h, set, write } from "./dom.js";
import { base, get, part, typedId } from "./api.js";
import { snippets } from "./snippets.js";
import { t } from "./words.js";

const KEYS = [["1 – 5", "keys.pages"], ["?", "keys.help"], ["t", "keys.theme"], ["/", "keys.search"], ["p", "keys.pause"],
  ["f", "keys.follow"], ["c", "keys.clear"], ["↑ ↓", "keys.move"], ["Esc", "keys.close"]];

export function mount(place) {
  const addresses = h("dl", { class: "addresses", id: "addresses" });
  const uid = h("input", { id: "token-uid", value: "321", required: true, inputmode: "numeric", "aria-label": t("help.token.uid") });
  const token = h("output", { id: "token-made", class: "code" });
  const make = h("button", { type: "submit", class: "primary", id: "token-make" }, t("help.token.make"));
  const languages = h("div", { class: "tabs", role: "tablist", "aria-label": t("help.snippets") });
  const code = h("pre", { id: "snippet", tabindex: 0, role: "tabpanel" });
  const not = h("ul", { id: "not-emulated" });
  let state = null;
  let chosen = 0;
  /** The user whose token is shown. */
  let whose = uid.value;

  place.append(
    h("section", {}, h("h2", {}, t("help.addresses")), addresses),
    h("section", {}, h("h2", {}, t("help.token")), h("p", { class: "quiet" }, t("help.token.why")),
      h("form", { class: "inline", id: "token-form", onsubmit: (event) => {
        event.preventDefault();
        attempt(make, renew);
      } }, uid, make), h("div", { class: "copyable" }, token, copier(() => token.textContent))),
    h("section", {}, h("h2", {}, t("help.snippets")), languages, h("div", { class: "copyable top" }, code, copier(() => code.textContent))),
    h("section", {}, h("h2", {}, t("help.keys")), h("dl", { class: "keys" },
      KEYS.map(([key, text]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, t(text))]))),
    h("section", {}, h("h2", {}, t("help.not")), h("p", { class: "quiet" }, t("help.not.why")), not));

  async function renew() {
    const made = await get(`/v1/users/${part(typedId(uid.value))}/token`);
    write(token, made.token);
    whose = made.uid;
    show();
  }

  function show() {
    const all = snippets({ gateway: state.gateway.addr, user: state.http.user_api, admin: base,
      uid: whose, token: token.textContent });
    set(languages, all.map(([name], index) => h("button", {
      type: "button", role: "tab", id: `tab-${index}`, "aria-selected": index === chosen, tabindex: index === chosen ? 0 : -1,
      onclick: () => choose(index),
      onkeydown: (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (step) choose((index + step + all.length) % all.length);
      },
    }, name)));
    write(code, all[chosen][1]);
    code.setAttribute("aria-labelledby", `tab-${chosen}`);
  }

  function choose(index) {
    chosen = index;
    show();
    languages.children[index].focus();
  }

  attempt(null, async () => {
    state = await get("/v1/state");
    const rows = [[t("stack.gateway"), state.gateway.addr], ...state.access.map((server) => [server.name, server.advertised]),
      [t("help.user-api"), state.http.user_api], [t("help.group-api"), state.http.group_api], [t("help.admin"), base],
      [t("help.metrics"), `${base}/metrics`], [t("help.demo"), `${base}/demo/`], ["OpenAPI", `${base}/v1/openapi.json`]];
    set(addresses, rows.map(([name, address]) => [h("dt", {}, name), h("dd", { class: "copyable" }, h("code", {}, address), copier(address))]));
    await renew();
    const { not_emulated: missing } = await get("/v1/fidelity");
    set(not, missing.map((text) => h("li", {}, text)));
  });
  return () => {};
}
