// The panel of one user: presence, session, groups, and the inbox as a line of versions with the read mark. Serves the page
// Users.

import { h, set, write } from "./dom.js";
import { get, part } from "./api.js";
import { t } from "./words.js";
import { time } from "./frame.js";

/** How many of the newest messages of an inbox are shown. */
const NEWEST = 200;

export class Inbox {
  constructor(uid) {
    this.uid = uid;
    this.who = h("span", { class: "who" });
    this.where = h("dl", { class: "fields", id: "whereabouts" });
    this.line = h("div", { class: "version-line", id: "version-line", role: "img" });
    this.level = h("p", { class: "quiet", id: "level" });
    this.entries = h("div", { class: "entries", id: "entries", tabindex: 0, "aria-label": t("inbox.entries") });
    this.element = h("section", { class: "panel", "aria-label": t("inbox.title", uid) },
      h("div", { class: "head" }, h("h2", {}, uid, " ", this.who),
        h("a", { href: `#/wire?uid=${encodeURIComponent(uid)}` }, t("inbox.wire"))),
      this.where, h("h3", {}, t("inbox.inbox")), this.level, this.line, this.entries);
  }

  /**
   * Shows the user's present state. The inbox is requested only if events have passed since the last call (`moved`), and at
   * every fifth call without any.
   */
  async look(groups, user, moved) {
    write(this.who, user?.name ?? "");
    this.#showWhere(user, groups.filter((group) => group.members.includes(this.uid)));
    if (!moved && this.looks > 0) {
      this.looks -= 1;
      return;
    }
    this.looks = 4;
    this.#show(await this.#newest());
  }

  /**
   * Returns the newest messages of the inbox. Large messages take several pages, which are requested up to the version that
   * was the newest one at first.
   */
  async #newest() {
    const path = `/v1/inboxes/${part(this.uid)}`;
    const { total } = await get(`${path}?limit=1`);
    const entries = [];
    for (let after = Math.max(0, total - NEWEST); ;) {
      const page = await get(`${path}?limit=${NEWEST}&after=${after}`);
      entries.push(...page.entries);
      const last = page.entries.at(-1)?.version ?? total;
      if (page.next === null || last >= total) return { ...page, entries: entries.slice(-NEWEST) };
      after = page.next;
    }
  }

  #showWhere(user, groups) {
    const session = user?.session ?? null;
    const now = JSON.stringify([user?.access, session, user?.online, user && Math.ceil(user.online_ms / 1000), groups.map(({ gid, name }) => [gid, name])]);
    if (this.now === now) return;
    this.now = now;
    set(this.where,
      h("dt", {}, t("inbox.presence")), h("dd", {}, user?.online ? t("inbox.online", Math.ceil(user.online_ms / 1000)) : t("inbox.offline")),
      h("dt", {}, t("wire.session")), h("dd", {}, session === null ? t("inbox.no-session")
        : [h("a", { href: `#/wire?session=${session}` }, `#${session}`), ` ${user.access ?? ""}`]),
      h("dt", {}, t("users.groups")), h("dd", {}, groups.length === 0 ? "–" : groups.map(({ gid, name }) => `${name || "–"} (${gid})`).join(", ")));
  }

  #show(inbox) {
    // Compared by id and time too: after a reset, other messages have the same versions.
    const now = JSON.stringify([inbox.read, inbox.total, inbox.entries.map(({ version, msgID, sendTime }) => [version, msgID, sendTime])]);
    if (this.shown === now) return;
    this.shown = now;
    const waiting = Math.max(0, inbox.total - inbox.read);
    write(this.level, t("inbox.level", inbox.total, inbox.read, waiting));
    this.line.setAttribute("aria-label", this.level.textContent);
    const mark = () => h("span", { class: "mark", title: t("inbox.read", inbox.read) }, t("inbox.read", inbox.read));
    const first = inbox.entries[0]?.version ?? 0;
    const cells = [];
    if (inbox.total > 0 && inbox.read < first) cells.push(mark());
    for (const entry of inbox.entries) {
      cells.push(h("span", { class: `version ${entry.version > inbox.read ? "is-new" : ""}`, title: `${entry.version}: ${entry.msg}` }));
      if (entry.version === inbox.read) cells.push(mark());
    }
    set(this.line, cells);
    set(this.entries, [...inbox.entries].reverse().map((entry) => h("div", { class: `entry ${entry.version > inbox.read ? "is-new" : ""}`, "data-version": entry.version },
      h("span", { class: "v" }, `v${entry.version}`), h("span", { class: "quiet" }, time(entry.sendTime)),
      h("span", {}, h("b", {}, entry.sourceUID), entry.msgType === "p2p" ? "" : h("span", { class: "badge" }, entry.msgType, entry.groupID === "0" ? "" : ` ${entry.groupID}`),
        " ", h("span", { class: "body" }, entry.msg)))));
  }
}
