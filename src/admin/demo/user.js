// A column of the demo: one user's client, what it has sent and received, and what it tells. Serves the frame.
//
// All that is known stands in the fields of `User`, from which `draw` builds the column anew: after a login and a logout, and
// in another language. Messages are kept in the page only.

import { ImdClient, newMsgID } from "./imd-client.js";
import { action, attempt } from "../console/notice.js";
import { field, h, set, write } from "../console/dom.js";
import { get, part, post, typedId } from "../console/api.js";
import { Talk, keyOf, line, showStatus } from "./talk.js";
import { t } from "../console/words.js";
import { time } from "../console/frame.js";

/** How often the list of users and groups is requested. */
const LIST_EVERY_MS = 5000;
/** How many lines of what has happened are kept. */
const EVENTS = 200;
/** How many messages one button sends. */
const MANY = 100;

export class User {
  /** `side` is a part of the ids of elements. `gateway` returns the gateway's address; `changed` hears of a login. */
  constructor(side, uid, { gateway, changed }) {
    Object.assign(this, { side, uid, gateway, changed, client: null });
    setInterval(() => this.#list(), LIST_EVERY_MS);
  }

  #reset() {
    this.talks = new Map();
    this.open = null;
    /** The user's own messages by their ids. */
    this.sent = new Map();
    this.counts = { stored: 0, notified: 0, synced: 0, pages: 0, accepted: 0, again: 0 };
    this.events = [];
    this.plan = "";
  }

  async #logIn(typed) {
    const gateway = this.gateway();
    if (!gateway) throw new Error(t("demo.no-gateway"));
    this.uid = typedId(typed);
    this.#reset();
    const client = await ImdClient.connect(gateway);
    this.client = client;
    this.#listen(client);
    this.element.replaceWith(this.draw());
    try {
      await this.#authenticate();
    } catch (error) {
      this.#leave();
      throw error;
    }
    this.changed();
    this.text.focus();
    await this.#list();
  }

  /** Logs the client in, with a token that this imd gives out for any user: an app asks its own server for one. */
  #authenticate() {
    return this.client.login(this.uid, async () => (await get(`/v1/users/${part(this.uid)}/token`)).token);
  }

  #leave() {
    this.client.close();
    this.client = null;
    this.element.replaceWith(this.draw());
    this.asked.focus();
  }

  #listen(client) {
    let missed = null;
    client.on("login", ({ addr, again }) => {
      this.counts.again += again;
      this.plan = "";
      this.#tell(t("demo.logged-in", addr));
      if (again > 0) this.#tell(t("demo.sent-again", again));
    });
    client.on("close", ({ error, retryIn }) => {
      missed ??= client.currentID;
      this.plan = retryIn === null ? error.message : t("demo.retry", (retryIn / 1000).toFixed(1));
      this.#tell(t("demo.lost", error.message), "bad");
    });
    client.on("notify", ({ currentID, totalID }) => {
      this.counts.notified += 1;
      this.#tell(t("demo.notified", currentID, totalID), "notified");
    });
    client.on("sync", ({ currentID, totalID, count }) => {
      this.counts.pages += 1;
      this.#tell(t("demo.synced", count, currentID, totalID));
      if (missed === null || currentID < totalID) return;
      this.#tell(t("demo.caught-up", currentID - missed));
      missed = null;
    });
    client.on("message", (message) => this.#receive(message));
  }

  #receive({ kind, group, source, msgID, text, version, sentAt }) {
    this.counts.synced += 1;
    this.#show();
    const own = this.sent.get(msgID);
    if (kind === "ack") {
      this.counts.accepted += 1;
      if (!own) return;
      own.accepted += 1;
      return showStatus(own);
    }
    if (own && source === this.uid) {
      // The user's own message to a group or to oneself, which comes back with its version.
      own.version = version;
      return showStatus(own);
    }
    const isMine = source === this.uid;
    const message = { isMine, source, msgID, text, version, sentAt, accepted: 0, status: "stored" };
    const talk = this.#talk(kind, kind === "group" ? group : source);
    this.#add(talk, message);
    if (talk !== this.open && !isMine) talk.unread += 1;
    if (this.accepts.checked && kind === "p2p" && !isMine) this.#accept(message);
  }

  async #accept(message) {
    try {
      await this.client.accept(message.source, message.msgID);
      message.accepted = 1;
      showStatus(message);
    } catch (error) {
      this.#tell(error.message, "bad");
    }
  }

  async #send(text) {
    const { kind, id } = this.open;
    const message = { isMine: true, source: this.uid, msgID: newMsgID(), text, sentAt: Date.now(), accepted: 0, status: "sending" };
    this.sent.set(message.msgID, message);
    this.#add(this.open, message);
    this.#show();
    try {
      // Resolves when the message is stored, also if the connection is lost and made again meanwhile.
      await (kind === "group" ? this.client.sendGroup(id, text, message.msgID) : this.client.sendP2P(id, text, message.msgID));
      message.status = "stored";
      this.counts.stored += 1;
    } catch (error) {
      [message.status, message.why] = ["refused", error.message];
      this.#tell(error.message, "bad");
    }
    showStatus(message);
    this.#show();
  }

  #talk(kind, id) {
    const key = keyOf(kind, id);
    if (!this.talks.has(key)) {
      const talk = new Talk(kind, id);
      this.talks.set(key, talk);
      this.peers.append(talk.draw((chosen) => this.#open(chosen)));
      if (this.open === null) this.#open(talk);
      talk.show(talk === this.open);
    }
    return this.talks.get(key);
  }

  #open(talk) {
    this.open = talk;
    talk.unread = 0;
    write(this.title, t("demo.with", talk.title));
    set(this.lines, talk.messages.map((message) => this.#line(message)));
    this.hasNew = true;
    this.#show();
  }

  #line(message) {
    return line(message, (accepted) => this.#accept(accepted));
  }

  #add(talk, message) {
    talk.messages.push(message);
    if (talk !== this.open) return;
    this.lines.append(this.#line(message));
    this.hasNew = true;
  }

  /** Requests the known users and this user's groups, and lists them. */
  async #list() {
    if (!this.client || document.visibilityState !== "visible") return;
    try {
      const [{ users }, { groups }] = await Promise.all([get("/v1/users?limit=100"), get("/v1/groups?limit=100")]);
      if (!this.client) return;
      for (const { uid, name, online } of users.filter((user) => user.uid !== this.uid)) {
        Object.assign(this.#talk("p2p", uid), { name: name ?? "", isOnline: online });
      }
      for (const { gid, name } of groups.filter(({ members }) => members.includes(this.uid))) {
        this.#talk("group", gid).name = name;
      }
      this.#show();
    } catch (error) {
      this.#tell(error.message, "bad");
    }
  }

  /** Adds a line to what has happened. A notify replaces the one before: it says all that the other has said. */
  #tell(text, kind = "") {
    const event = { text, kind, at: Date.now() };
    if (kind === "notified" && this.events.at(-1)?.kind === kind) {
      this.events.pop();
      this.log.lastChild.remove();
    }
    this.events.push(event);
    this.log.append(this.#event(event));
    if (this.events.length > EVENTS) {
      this.events.shift();
      this.log.firstChild.remove();
    }
    this.#show();
  }

  #event({ text, kind, at }) {
    return h("li", { class: kind }, h("time", {}, time(at)), h("span", {}, text));
  }

  /**
   * Shows state, counts and conversations, and scrolls to what is new, at the browser's next frame: once, even if much
   * happens together.
   */
  #show() {
    this.showing ??= requestAnimationFrame(() => {
      this.showing = null;
      if (!this.client) return;
      const { state, addr, currentID, totalID } = this.client;
      this.state.dataset.is = state;
      const behind = state === "online" && currentID < totalID;
      write(this.state, behind ? t("demo.catching-up") : [t(`demo.${state}`, addr), this.plan].filter(Boolean).join(": "));
      this.again.hidden = state !== "closed";
      this.cut.disabled = state !== "online";
      write(this.level, t("demo.level", currentID, totalID));
      [this.progress.max, this.progress.value] = [Math.max(1, totalID), currentID];
      for (const [name, count] of Object.entries(this.counts)) write(this.counters[name], count);
      for (const talk of this.talks.values()) talk.show(talk === this.open);
      this.composer.disabled = this.open === null;
      this.log.scrollTop = this.log.scrollHeight;
      if (this.hasNew) this.lines.scrollTop = this.lines.scrollHeight;
      this.hasNew = false;
    });
  }

  /** Returns the column. What was drawn before is to be replaced by it. */
  draw() {
    this.element = h("section", { class: "panel user", id: `user-${this.side}`, "aria-label": t("demo.user", this.uid) },
      this.client ? this.#drawClient() : this.#drawLogin());
    if (this.client) {
      for (const talk of this.talks.values()) this.peers.append(talk.draw((chosen) => this.#open(chosen)));
      if (this.open) this.#open(this.open);
      this.#show();
    }
    return this.element;
  }

  #drawLogin() {
    this.asked = h("input", { inputmode: "numeric", required: true, autocomplete: "off", value: this.uid, name: "uid" });
    const button = h("button", { type: "submit", class: "primary" }, t("demo.log-in"));
    return h("form", { class: "inline login", onsubmit: (event) => {
      event.preventDefault();
      attempt(button, () => this.#logIn(this.asked.value));
    } }, field(t("demo.uid"), this.asked), button);
  }

  #drawClient() {
    this.state = h("span", { class: "state", role: "status" });
    this.again = action(t("demo.log-in"), () => this.#authenticate(), { class: "small again", hidden: true });
    this.cut = action(t("demo.cut"), () => this.client.drop(), { class: "small cut", title: t("demo.cut.title") });
    this.level = h("span", { class: "level" });
    this.progress = h("progress", { max: 1, value: 0, "aria-label": t("demo.progress") });
    this.accepts = h("input", { type: "checkbox", checked: this.accepts?.checked ?? true });
    this.counters = Object.fromEntries(Object.keys(this.counts).map((name) => [name, h("dd", { "data-count": name })]));
    this.log = h("ol", { class: "events", tabindex: 0, "aria-label": t("demo.events") }, this.events.map((event) => this.#event(event)));
    return [
      h("div", { class: "head" }, h("h2", {}, this.uid), this.state, h("span", { class: "actions" }, this.again, this.cut,
        action(t("demo.log-out"), () => this.client.logout().finally(() => this.#leave()), { class: "small log-out" }))),
      h("div", { class: "read" }, this.level, this.progress),
      h("dl", { class: "counts" }, Object.entries(this.counters).map(([name, count]) => h("div", {}, h("dt", {}, t(`demo.n-${name}`)), count))),
      h("label", { class: "check" }, this.accepts, t("demo.auto")),
      h("div", { class: "chat" }, this.#drawSide(), this.#drawTalk()),
      h("details", { open: true }, h("summary", {}, t("demo.events")), this.log),
    ];
  }

  #drawSide() {
    this.peers = h("div", { class: "peers", role: "group", "aria-label": t("demo.talks") });
    const to = h("input", { inputmode: "numeric", required: true, placeholder: "uid", "aria-label": t("demo.to"), name: "to" });
    const name = h("input", { "aria-label": t("group.name"), placeholder: t("group.name"), name: "group" });
    const members = h("input", { "aria-label": t("group.members"), placeholder: "8, 9", name: "members" });
    const create = h("button", { type: "submit", class: "small" }, t("demo.create"));
    return h("div", { class: "side" }, this.peers,
      h("form", { class: "inline", onsubmit: (event) => {
        event.preventDefault();
        this.#open(this.#talk("p2p", typedId(to.value)));
        to.value = "";
        this.text.focus();
      } }, to, h("button", { type: "submit", class: "small", "aria-label": t("demo.add") }, "+")),
      h("details", {}, h("summary", {}, t("group.title")), h("form", { class: "new-group", onsubmit: (event) => {
        event.preventDefault();
        attempt(create, async () => {
          const all = members.value.split(/[,\s]+/).filter(Boolean).map(typedId);
          const { gid } = await post("/v1/groups", { owner: this.uid, name: name.value, members: all });
          await this.#list();
          this.#open(this.#talk("group", gid));
        });
      } }, name, members, create)));
  }

  #drawTalk() {
    this.title = h("h3", {}, t("demo.nobody"));
    this.lines = h("ol", { class: "lines", role: "log", tabindex: 0, "aria-label": t("demo.messages") });
    this.text = h("input", { autocomplete: "off", required: true, "aria-label": t("send.text"), placeholder: t("send.text"), name: "text" });
    const many = h("button", { type: "button", class: "many", title: t("demo.many"), "aria-label": t("demo.many"), onclick: () => {
      for (let n = 1; n <= MANY; n += 1) this.#send(`${this.text.value || "message"} ${n}`);
    } }, `×${MANY}`);
    this.composer = h("fieldset", { class: "composer", disabled: true }, this.text,
      h("button", { type: "submit", class: "primary" }, t("demo.send")), many);
    return h("div", { class: "talk" }, this.title, this.lines, h("form", { onsubmit: (event) => {
      event.preventDefault();
      this.#send(this.text.value);
      this.text.value = "";
    } }, this.composer));
  }
}
