// Asks the admin API. Where it wants a token, it is asked for once and kept until the tab is closed.

import { h, write } from "./dom.js";
import { t } from "./words.js";

/** Where the console is, without a slash at the end: behind a proxy it may be under a path. */
export const base = location.origin + location.pathname.replace(/\/[^/]*$/, "");

const KEY = "imd.token";
/** What a header can carry: a token of anything else is nobody's. */
const CARRIED = /^[\x21-\x7e]+$/;

/** The token that was given, if it can be sent. */
function kept() {
  const token = sessionStorage.getItem(KEY);
  if (token === null || CARRIED.test(token)) return token;
  sessionStorage.removeItem(KEY);
  return null;
}

/** What the API refused, with its reason as text. */
export class Refused extends Error {
  constructor(status, why) {
    super(why);
    this.status = status;
  }
}

/** Fetches a path of the API, with the token; without one that fits, waits until there is one. */
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

/** Stands behind the key of a number's text. */
const TEXT = "_str";

/**
 * An answer of the API with texts in place of those numbers that have one beside them. An id has 64 bits, more than a
 * number of JavaScript holds: here it is a text from the first to the last.
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

/** An id that was typed, as the API writes it; what is no number stays as it is. */
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

/** GET, as JSON. */
export async function get(path, options) {
  return parsed(await request(path, options));
}

/** POST or DELETE of JSON, as JSON. */
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

/** A part of a path. */
export const part = encodeURIComponent;

let asking = null;

/** One dialog, however many wait for it. */
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
    // Without it there is nothing to show. Esc is only asked about once; a second one closes it.
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener("close", () => dialog.isConnected && dialog.showModal());
    document.body.append(dialog);
    dialog.showModal();
  });
  return asking;
}
