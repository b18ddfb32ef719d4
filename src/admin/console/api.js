// Sends requests to the admin API, for all pages.
//
// If the API needs a token, the user is asked for it once, and it is kept until the tab is closed. In every answer, ids are
// texts, so that no digit of a 64-bit id is lost.

import { h, write } from "./dom.js";
import { t } from "./words.js";

/** The URL of the console without a slash at its end. Behind a proxy it may contain a path. The demo is one level below. */
export const base = new URL("..", import.meta.url).href.replace(/\/$/, "");

const KEY = "imd.token";
/** Matches the tokens that a header can carry. Any other text can't be the token of an API. */
const CARRIED = /^[\x21-\x7e]+$/;

/** Returns the token that the user has entered, if it can be sent in a header. */
function kept() {
  const token = sessionStorage.getItem(KEY);
  if (token === null || CARRIED.test(token)) return token;
  sessionStorage.removeItem(KEY);
  return null;
}

/** The error of a request that the API has refused, with the status and the reason. */
export class Refused extends Error {
  constructor(status, why) {
    super(why);
    this.status = status;
  }
}

/** Requests a path of the API with the token. If the API refuses the token, waits until the user has entered another one. */
export async function request(path, options = {}) {
  for (;;) {
    const token = kept();
    const headers = { ...options.headers };
    if (token) headers.authorization = `Bearer ${token}`;
    const response = await fetch(base + path, { ...options, headers, cache: "no-store" });
    if (response.status !== 401) return response;
    await askToken(token);
  }
}

/** The suffix of the key under which the API gives a number as a text too. */
const TEXT = "_str";

/**
 * Returns an answer of the API in which the numbers that are also given as texts are replaced by these texts. An id has 64
 * bits, more than a number of JavaScript can hold exactly, so the console handles ids as texts only.
 */
export function exact(value) {
  if (Array.isArray(value)) return value.map(exact);
  if (value === null || typeof value !== "object") return value;
  const told = {};
  for (const key of Object.keys(value)) {
    if (key.endsWith(TEXT) && key.slice(0, -TEXT.length) in value) continue;
    const text = value[key + TEXT];
    told[key] = text === undefined ? exact(value[key]) : text;
  }
  return told;
}

/** Returns an id that the user has typed as the API writes it. A text that is not a number is returned trimmed. */
export function typedId(text) {
  const trimmed = text.trim();
  return /^-?\d+$/.test(trimmed) ? BigInt(trimmed).toString() : trimmed;
}

async function parsed(response) {
  const text = await response.text();
  let answer = {};
  try {
    answer = text ? exact(JSON.parse(text)) : {};
  } catch {
    throw new Refused(response.status, text);
  }
  if (!response.ok) throw new Refused(response.status, answer.error ?? `${response.status}`);
  return answer;
}

/** Sends a GET request, and returns the JSON of the answer. Throws `Refused` if the API refuses it. */
export async function get(path, options) {
  return parsed(await request(path, options));
}

/** Sends a request with a JSON body, if there is one, and returns the JSON of the answer. Throws as `get` does. */
export async function send(method, path, body) {
  const options = { method };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = { "content-type": "application/json" };
  }
  return parsed(await request(path, options));
}

export const post = (path, body) => send("POST", path, body);
export const remove = (path) => send("DELETE", path);

/** Encodes a text as one segment of a path. */
export const part = encodeURIComponent;

let asking = null;

/** Asks the user for a token in place of `wrong`. There is one dialog, whatever the number of requests that wait for it. */
function askToken(wrong) {
  if (kept() !== wrong) return Promise.resolve();
  asking ??= new Promise((resolve) => {
    const input = h("input", { type: "password", id: "token-input", autocomplete: "off", required: true });
    const why = h("p", { class: "quiet", role: "status" }, wrong ? t("token.wrong") : t("token.why"));
    const dialog = h("dialog", { id: "token", "aria-labelledby": "token-title" });
    const take = (event) => {
      event.preventDefault();
      if (!CARRIED.test(input.value)) return write(why, t("token.unfit"));
      sessionStorage.setItem(KEY, input.value);
      asking = null;
      dialog.close();
      dialog.remove();
      resolve();
    };
    dialog.append(h("form", { onsubmit: take },
      h("h2", { id: "token-title" }, t("token.title")),
      why, input,
      h("div", { class: "actions" }, h("button", { class: "primary", type: "submit" }, t("token.go")))));
    // The page can show nothing without a token, so the dialog stays open. A browser lets a page prevent only the first
    // Esc: the second one closes the dialog, which is then opened again.
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener("close", () => dialog.isConnected && dialog.showModal());
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}
