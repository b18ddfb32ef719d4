// Writes events as a record, which `imd replay` reads: see docs/replay.md. Serves the export of the page Wire. A record
// contains the tokens of logins.

const WHATS = ["opened", "in", "out", "closed"];

/** The fields that are numbers in a record. In the console they may be texts: see `exact` in api.js. */
const NUMBERS = new Set(["session", "uid", "UID", "sourceUID", "targetUID", "currentID", "totalID", "incrementID",
  "sendTime"]);

/** Returns a value as JSON. `key` is the key of the value in its object, if it has one. */
function json(value, key) {
  if (Array.isArray(value)) return `[${value.map((one) => json(one)).join()}]`;
  if (value !== null && typeof value === "object") {
    return `{${Object.entries(value).map(([name, inner]) => `${JSON.stringify(name)}:${json(inner, name)}`).join()}}`;
  }
  return typeof value === "string" && NUMBERS.has(key) ? value : JSON.stringify(value);
}

/** Returns the lines of a record, beginning with its header. `imd` is the version of the program. */
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
