// Events as a record file, which `imd replay` plays: see docs/replay.md. It holds the tokens of logins.

const WHATS = ["opened", "in", "out", "closed"];

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
  return lines.map((line) => `${JSON.stringify(line)}\n`);
}
