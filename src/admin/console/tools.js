// The buttons for language and theme at the top of a page. Serves the frames of the console and of the demo.

import { h, set } from "./dom.js";
import { language, languages, setLanguage, t } from "./words.js";

const THEMES = ["auto", "light", "dark"];
const SIGNS = { auto: "◐", light: "☀", dark: "☾" };

const themes = h("button", { id: "theme", class: "plain", onclick: nextTheme });

function theme() {
  return document.documentElement.dataset.theme ?? "auto";
}

function setTheme(next) {
  if (next === "auto") {
    delete document.documentElement.dataset.theme;
    localStorage.removeItem("imd.theme");
  } else {
    document.documentElement.dataset.theme = next;
    localStorage.setItem("imd.theme", next);
  }
}

function showTheme() {
  set(themes, `${SIGNS[theme()]} `, h("span", { class: "wide" }, t(`theme.${theme()}`)));
}

/** Goes on from auto to light to dark, and to auto again. */
export function nextTheme() {
  setTheme(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);
  showTheme();
}

/** Returns both buttons in the present language. `redraw` builds the page in another one. */
export function tools(redraw) {
  const [code] = languages.filter((one) => one !== language());
  document.documentElement.lang = language();
  themes.title = t("theme.title");
  showTheme();
  const other = h("button", { id: "language", class: "plain", lang: code, onclick: () => {
    setLanguage(code);
    redraw();
  } }, t("language.other"));
  return [other, themes];
}

/** Returns a link that skips what is in front of the page, for those who use the keyboard. */
export function skipTo(main) {
  return h("a", { class: "skip", href: "#main", onclick: (event) => {
    event.preventDefault();
    main.focus();
  } }, t("skip"));
}
