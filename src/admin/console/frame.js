// Formats an event of the journal for people: as one line, as its fields, and as bytes. Serves the pages Wire and Users.

import { h } from "./dom.js";
import { t } from "./words.js";

const pad = (number, digits) => String(number).padStart(digits, "0");

/** Formats a Unix time in milliseconds as the local time of day, to the millisecond. */
export function time(ms) {
  const at = new Date(ms);
  return `${pad(at.getHours(), 2)}:${pad(at.getMinutes(), 2)}:${pad(at.getSeconds(), 2)}.${pad(at.getMilliseconds(), 3)}`;
}

/** Returns whether an event is an injected fault, or a frame that reports an error. */
export function isError(event) {
  return event.what === "fault" || event.cmd === "ErrServer" || (event.frame?.errCode ?? 0) > 0;
}

/** Returns the contents of an event as one line. */
export function summary(event) {
  if (event.what === "opened") return t("event.opened");
  if (event.what === "closed") return t("event.closed", event.detail);
  if (event.what === "fault") return t("event.fault", event.detail.name, event.detail.action);
  const fields = Object.entries(event.frame ?? {}).filter(([name, value]) =>
    name !== "Msgs" && value !== "" && !(name === "errCode" && value === 0) && !(name === "errStr" && value === "ok"));
  const texts = fields.map(([name, value]) => `${name} ${value}`);
  const entries = event.frame?.Msgs;
  if (entries) texts.push(t("event.entries", entries.length));
  return texts.join("  ");
}

function rows(value, depth = 0) {
  return Object.entries(value).flatMap(([name, inner]) => {
    const term = h("dt", { class: `depth-${Math.min(depth, 3)}` }, name);
    if (inner !== null && typeof inner === "object") return [term, h("dd", {}), ...rows(inner, depth + 1)];
    return [term, h("dd", {}, String(inner))];
  });
}

/** Returns a list of all fields of an event's frame. */
export function fields(event) {
  return h("dl", { class: "fields" }, rows(event.frame ?? {}));
}

/** Formats bytes, given as hexadecimal digits, in rows of 16 with their offset and their printable characters. */
export function hex(bytes) {
  const lines = [];
  for (let at = 0; at < bytes.length; at += 32) {
    const pairs = bytes.slice(at, at + 32).match(/../g) ?? [];
    const shown = pairs.map((pair) => {
      const code = Number.parseInt(pair, 16);
      return code >= 32 && code < 127 ? String.fromCharCode(code) : "·";
    });
    lines.push(`${(at / 2).toString(16).padStart(4, "0")}  ${pairs.join(" ").padEnd(47)}  ${shown.join("")}`);
  }
  return lines.join("\n");
}
