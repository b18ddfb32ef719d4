// A conversation of a user with another user or with a group: its button in the list, and its messages as lines. Serves the
// columns of the demo, and knows no client.

import { h, write } from "../console/dom.js";
import { t } from "../console/words.js";
import { time } from "../console/frame.js";

/** Returns the key of a conversation. Ids of users and of groups may be the same. */
export const keyOf = (kind, id) => `${kind}:${id}`;

export class Talk {
  /** `kind` is "p2p" or "group", `id` the other user or the group. */
  constructor(kind, id) {
    Object.assign(this, { kind, id, key: keyOf(kind, id), name: "", isOnline: false, unread: 0, messages: [] });
  }

  /** Returns the button that opens this conversation. It is built once, so that it keeps the focus while the list changes. */
  draw(open) {
    this.button = h("button", { type: "button", class: "peer", "data-talk": this.key, onclick: () => open(this) },
      h("i", { class: "dot" }), h("span", { class: "name" }), h("span", { class: "badge warn" }));
    return this.button;
  }

  /** Shows the present name, presence and number of unread messages in the button. */
  show(isOpen) {
    const [dot, name, badge] = this.button.children;
    const isGroup = this.kind === "group";
    dot.classList.toggle("is-group", isGroup);
    dot.classList.toggle("is-on", this.isOnline);
    write(name, this.title);
    this.button.title = isGroup ? t("demo.group", this.id) : this.isOnline ? t("demo.peer-on", this.id) : t("demo.peer-off", this.id);
    badge.hidden = this.unread === 0;
    write(badge, this.unread);
    badge.setAttribute("aria-label", t("demo.unread", this.unread));
    this.button.setAttribute("aria-current", String(isOpen));
  }

  get title() {
    return this.name ? `${this.name} (${this.id.length > 8 ? `…${this.id.slice(-4)}` : this.id})` : this.id;
  }
}

/** Returns a message as a line. `accept` accepts it, if it came from another user. */
export function line(message, accept) {
  const button = message.isMine ? null : h("button", { type: "button", class: "small", onclick: () => accept(message) }, t("demo.accept"));
  const status = h("span", { class: "status" });
  message.line = h("li", { class: "line", "data-id": message.msgID },
    h("span", { class: "body" }, message.text),
    h("span", { class: "about" },
      message.isMine ? null : h("b", {}, message.source),
      h("time", {}, time(message.sentAt)), status, button));
  message.line.classList.toggle("is-mine", message.isMine);
  showStatus(message);
  return message.line;
}

/** Shows how far a message has come, if it has a line. */
export function showStatus(message) {
  const { line: element, isMine, version, status, accepted } = message;
  if (!element) return;
  const texts = [];
  if (isMine) texts.push(t(`demo.is-${status}`, message.why ?? ""));
  if (version) texts.push(`v${version}`);
  if (accepted > 0) texts.push(isMine ? t("demo.accepted-by", accepted) : t("demo.is-accepted"));
  write(element.querySelector(".status"), texts.join(" · "));
  element.classList.toggle("is-refused", status === "refused");
  const button = element.querySelector("button");
  if (button) button.hidden = accepted > 0;
}
