// Notices for all pages: a success is shown for a moment, and an error until the user closes it.

import { h } from "./dom.js";
import { t } from "./words.js";

const SHOWN_MS = 6000;
const AT_MOST = 4;

let place = null;

/** Returns the element in which notices appear, which screen readers read out. */
export function notices() {
  place = h("div", { id: "notices", role: "status", "aria-live": "polite" });
  return place;
}

/** Shows a notice. `kind` is "good" or "bad". */
export function say(text, kind = "good") {
  const note = h("div", { class: `notice ${kind}` }, h("span", {}, text),
    h("button", { class: "plain", "aria-label": t("notice.close"), onclick: () => note.remove() }, "×"));
  place.append(note);
  while (place.children.length > AT_MOST) place.firstChild.remove();
  if (kind === "good") setTimeout(() => note.remove(), SHOWN_MS);
}

/** Awaits the action of a button, which is disabled meanwhile, and shows its result. Returns whether the action succeeded. */
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

/** Returns a button that runs `act` under the rules of `attempt`. */
export function action(label, act, props = {}) {
  const { done, ...rest } = props;
  const button = h("button", { type: "button", ...rest,
    onclick: () => attempt(button, () => act(button), done) }, label);
  return button;
}

/** Returns a button that copies a text, or the text that a function returns. */
export function copier(text) {
  return action(t("copy"), async () => {
    await navigator.clipboard.writeText(typeof text === "function" ? text() : text);
  }, { class: "small copy", done: t("copied") });
}
