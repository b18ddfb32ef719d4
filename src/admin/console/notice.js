// What has happened, said for a moment; and what the API refuses, said until it is put away.

import { h } from "./dom.js";
import { t } from "./words.js";

const SHOWN_MS = 6000;
const AT_MOST = 4;

let place = null;

/** Where notices appear; read out by screen readers. */
export function notices() {
  place = h("div", { id: "notices", role: "status", "aria-live": "polite" });
  return place;
}

/** Says something; `kind` is "good" or "bad". */
export function say(text, kind = "good") {
  const note = h("div", { class: `notice ${kind}` }, h("span", {}, text),
    h("button", { class: "plain", "aria-label": t("notice.close"), onclick: () => note.remove() }, "×"));
  place.append(note);
  while (place.children.length > AT_MOST) place.firstChild.remove();
  if (kind === "good") setTimeout(() => note.remove(), SHOWN_MS);
}

/** Does what a button says, once at a time; says how it went. Returns whether it was done. */
export async function attempt(button, act, done) {
  if (button) button.disabled = true;
  try {
    const answer = await act();
    if (done) say(typeof done === "function" ? done(answer) : done);
    return true;
  } catch (error) {
    say(error.message, "bad");
    return false;
  } finally {
    if (button) button.disabled = false;
  }
}

/** A button that does something. */
export function action(label, act, props = {}) {
  const { done, ...rest } = props;
  const button = h("button", { type: "button", ...rest,
    onclick: () => attempt(button, () => act(button), done) }, label);
  return button;
}

/** A button that copies a text. */
export function copier(text) {
  return action(t("copy"), async () => {
    await navigator.clipboard.writeText(typeof text === "function" ? text() : text);
  }, { class: "small copy", done: t("copied") });
}
