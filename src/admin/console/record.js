// Events as a record file, which `imd replay` plays: see docs/replay.md. It holds the tokens of logins.

const WHATS = ["opened", "in", "out", "closed"];

/** Fields that a record has as numbers. Here they may be texts: see `exact` in api.js. */
const NUMBERS = new Set(["session", "uid", "UID", "sourceUID", "targetUID", "currentID", "totalID", "incrementID",
  "sendTime"]);

/** A value as JSON, `key` being where it stands. */
function json(value, key) {
  if (Array.isArray(value)) return `[${value.map((one) => json(one)).join()}]`;
  if (value !== null && typeof value === "object") {
    return `{${Object.entries(value).map(([name, inner]) => `${JSON.stringify(name)}:${json(inner, name)}`).join()}}`;
  }
  return typeof value === "string" && NUMBERS.has(key) ? value : JSON.stringify(value);
}

/** The lines of a record, the first of them its header. */
export function record(events, imd) {
  const lines = [{ format: "imd-record", version: 1, imd }];
  let began = null;
  for (const { us, session, server, uid, what, detail, cmd, bytes, frame } of events) {
    if (!WHATS.includes(what) || session === null) continue;
    began ??= us;
    const line = { us: us - began, session, server };
    if (uid !== null) line.uid = uid;
    line.what = what;
    if (what === "closed") line.reason = detail;
    if (cmd !== null && bytes !== undefined) line.cmd = cmd;
    if (bytes !== undefined) Object.assign(line, { bytes, frame });
    lines.push(line);
  }
  return lines.map((line) => `${json(line)}\n`);
}
