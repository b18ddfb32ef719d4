// The list of the quirks of the original stack: what each does, and whether it is on. Serves the page Faults. The config sets
// the quirks at the start, so they do not change while the page is open.

import { h, set } from "./dom.js";
import { attempt } from "./notice.js";
import { get } from "./api.js";
import { t } from "./words.js";

const ALL = ["notify_before_store", "sync_inclusive", "sync_drops_group_id", "login_not_required",
  "no_msg_id_in_replies", "old_session_stays_open", "gateway_starts_empty", "replies_as_schema"];

/** Returns the list of all quirks, which is filled when the API has answered. */
export function quirks() {
  const list = h("ul", { class: "quirks", id: "quirks" });
  attempt(null, async () => {
    const { quirks: on } = await get("/v1/fidelity");
    set(list, ALL.map((name) => h("li", { "data-quirk": name },
      h("span", { class: `badge ${on.includes(name) ? "warn" : ""}` }, t(on.includes(name) ? "quirk.on" : "quirk.off")),
      h("div", {}, h("code", {}, name), h("p", { class: "quiet" }, t(`quirk.${name}`))))));
  });
  return list;
}
