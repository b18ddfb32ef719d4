// A client of imd over WebSocket, in one file to copy. It imports nothing and knows no page: it runs in a browser, in a
// worker, and in Node 22 or later.
//
//   const client = await ImdClient.connect("ws://127.0.0.1:10100");       // the gateway's ws_listen
//   client.on("message", ({ source, text }) => console.log(source, text));
//   await client.login("321", token);                                     // `imd token 321` prints the token
//   await client.sendP2P("654", "hello");                                 // resolves once the message is stored
//
// After a login the client takes care of the connection. It pings, and if the connection is lost, it asks the gateway again
// with growing pauses, logs in, sends every unanswered message again under its old msgID, and reads what it has missed.
//
// Ids of users and groups have 64 bits, more than a number of JavaScript holds exactly. Here they are always texts of digits;
// as arguments, numbers and BigInts are taken too. docs/protocol.md explains the protocol.

// ---------------------------------------------------------------------------------------------------------------------
// The messages. A frame is one binary WebSocket message, and holds one protobuf message whose field 1 is the command.

const [GATEWAY, LOGIN, PING, SEND_P2P, ACCEPT, SEND_GROUP, SYNC, NOTIFY, LOGOUT, ERROR] =
  [10001, 20001, 20002, 20003, 20004, 20005, 20006, 20007, 20008, 90001];

/** The largest frame, in bytes. */
const MAX_FRAME = 65_535;

// The shape of a message lists its fields: number, name and type. The type is "uint32", "int64", "string", or the shape of a
// message that is repeated.
const HEAD = [[1, "cmd", "uint32"], [2, "cmdStr", "string"]];
const REPLY = [...HEAD, [3, "errCode", "uint32"], [4, "errStr", "string"]];
const OF_USER = [...HEAD, [3, "UID", "int64"]];
// Logins and pings are answered by `Error`. A stack that answers them as its schema says (the quirk replies_as_schema) has
// the same fields one number later: the type of field 3 tells which one it is.
const PLAIN_ERROR = [[1, "cmd", "uint32"], [2, "errCode", "uint32"], [3, "errStr", "string"],
  [3, "errCode", "uint32"], [4, "errStr", "string"]];
const ENTRY = [[1, "sourceUID", "int64"], [2, "targetUID", "int64"], [3, "groupID", "int64"], [4, "msgType", "string"],
  [5, "msgID", "string"], [6, "msg", "string"], [7, "incrementID", "int64"], [8, "sendTime", "int64"]];

/** The shape of the request of each command. */
export const REQUESTS = {
  [GATEWAY]: HEAD,
  [LOGIN]: [...OF_USER, [4, "token", "string"]],
  [PING]: OF_USER,
  [SEND_P2P]: [...HEAD, [3, "sourceUID", "int64"], [4, "targetUID", "int64"], [5, "msgID", "string"], [6, "msg", "string"]],
  [ACCEPT]: [...HEAD, [3, "sourceUID", "int64"], [4, "targetUID", "int64"], [5, "msgID", "string"]],
  [SEND_GROUP]: [...HEAD, [3, "sourceUID", "int64"], [4, "groupID", "int64"], [5, "msgID", "string"], [6, "msg", "string"]],
  [SYNC]: [...OF_USER, [4, "currentID", "int64"], [5, "limit", "uint32"]],
  [LOGOUT]: OF_USER,
};

/** The shape of what the server sends under each command. */
export const REPLIES = {
  [GATEWAY]: [...REPLY, [5, "addr", "string"], [6, "wsAddr", "string"]],
  [LOGIN]: PLAIN_ERROR,
  [PING]: PLAIN_ERROR,
  [SEND_P2P]: [...REPLY, [5, "sourceUID", "int64"], [6, "targetUID", "int64"], [7, "msgID", "string"], [8, "msg", "string"]],
  [ACCEPT]: REPLY,
  [SEND_GROUP]: [...REPLY, [5, "groupID", "int64"], [6, "msgID", "string"]],
  [SYNC]: [...REPLY, [5, "currentID", "int64"], [6, "Msgs", ENTRY], [7, "totalID", "int64"]],
  [NOTIFY]: [...REPLY, [5, "currentID", "int64"], [6, "totalID", "int64"]],
  [LOGOUT]: REPLY,
  [ERROR]: PLAIN_ERROR,
};

// ---------------------------------------------------------------------------------------------------------------------
// Protobuf, as far as these messages need it. A generated codec does the same, from proto/external.

/** The wire types: how the bytes of a field are laid out. */
const [VARINT, FIXED64, BYTES, FIXED32] = [0, 1, 2, 5];
const wireType = (type) => (type === "uint32" || type === "int64" ? VARINT : BYTES);

const utf8 = new TextEncoder();
// A byte order mark is a part of the text, and not removed.
const fromUtf8 = new TextDecoder("utf-8", { ignoreBOM: true });

function writeVarint(bytes, number) {
  // Two's complement: a negative number takes ten bytes.
  let rest = BigInt.asUintN(64, BigInt(number));
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
}

/** Encodes a message of a shape without repeated fields. Zeros and empty texts are not written, as proto3 has it. */
export function encode(shape, message) {
  const bytes = [];
  for (const [number, name, type] of shape) {
    const tag = (number << 3) | wireType(type);
    if (wireType(type) === VARINT) {
      const value = BigInt(message[name] ?? 0);
      if (value === 0n) continue;
      writeVarint(bytes, tag);
      writeVarint(bytes, value);
    } else if (message[name]) {
      const text = utf8.encode(message[name]);
      writeVarint(bytes, tag);
      writeVarint(bytes, text.length);
      for (const byte of text) bytes.push(byte);
    }
  }
  return Uint8Array.from(bytes);
}

/**
 * Decodes a message: an int64 becomes a BigInt, an absent field zero or empty. Unknown fields are skipped, so that a newer
 * server can add some. Throws a RangeError for bytes that are not protobuf.
 */
export function decode(shape, bytes) {
  const message = {};
  for (const [, name, type] of shape) {
    message[name] = Array.isArray(type) ? [] : { uint32: 0, int64: 0n, string: "" }[type];
  }
  let at = 0;
  const take = (length) => {
    if (length > bytes.length - at) throw new RangeError("a field goes beyond the end of its message");
    at += length;
    return bytes.subarray(at - length, at);
  };
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const [byte] = take(1);
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw new RangeError("a number of more than ten bytes");
  };
  const field = (kind) => {
    if (kind === VARINT) return varint();
    if (kind === BYTES) return take(Number(varint()));
    if (kind === FIXED64) return take(8);
    if (kind === FIXED32) return take(4);
    throw new RangeError(`there is no wire type ${kind}`);
  };
  while (at < bytes.length) {
    const tag = Number(varint());
    const kind = tag % 8;
    const value = field(kind);
    const known = shape.find(([number, , type]) => number === Math.floor(tag / 8) && wireType(type) === kind);
    if (!known) continue;
    const [, name, type] = known;
    if (type === "uint32") message[name] = Number(BigInt.asUintN(32, value));
    else if (type === "int64") message[name] = BigInt.asIntN(64, value);
    else if (type === "string") message[name] = fromUtf8.decode(value);
    else message[name].push(decode(type, value));
  }
  return message;
}

// ---------------------------------------------------------------------------------------------------------------------
// One connection.

/** Why a request failed. `code` is that of the server, such as 93002; 0 if the connection failed before an answer came. */
export class ImdError extends Error {
  constructor(code, text) {
    super(text);
    this.name = "ImdError";
    this.code = code;
  }
}

/** The codes of a failed connection, and of a server that does not serve at the moment. Other refusals are for good. */
const PASSING = new Set([0, 90001, 92001]);
/** Whether another attempt may succeed. An error of another kind is that of a token that could not be had. */
const isPassing = (error) => !(error instanceof ImdError) || PASSING.has(error.code);

/** A WebSocket on which requests can be pipelined: the server answers them in their order. */
class Connection {
  #pending = [];
  #socket;
  #timeout;
  /** What the last frame said, if that was an `Error`: why the server closes the connection next. */
  #error = null;
  /** Called with the command and the message of each frame that is no answer. */
  onpush = () => {};
  /** Called once, with the reason, when the connection has ended. */
  onclose = () => {};

  /** Opens a connection. `timeout` limits how long this, and each answer, may take, in ms. */
  static open(url, timeout) {
    return new Promise((resolve, reject) => {
      // Throws for a bad URL, and for ws: from a page of https:.
      const socket = new WebSocket(url);
      socket.binaryType = "arraybuffer";
      const timer = setTimeout(() => socket.close(), timeout);
      socket.onopen = () => {
        clearTimeout(timer);
        resolve(new Connection(socket, timeout));
      };
      socket.onclose = () => {
        clearTimeout(timer);
        reject(new ImdError(0, `${url}: no connection`));
      };
    });
  }

  constructor(socket, timeout) {
    this.#socket = socket;
    this.#timeout = timeout;
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code, reason }) =>
      this.#end(this.#error ?? new ImdError(0, `the connection has ended: ${[code, reason].filter(Boolean).join(" ")}`));
  }

  /** Sends a request, and resolves with its answer. Rejects if the server refuses it or the connection ends. */
  request(cmd, message = {}) {
    return new Promise((resolve, reject) => {
      // A server that does not answer is gone, whatever TCP says: half-open connections show only like this.
      const timer = setTimeout(() => this.close(new ImdError(0, `no answer within ${this.#timeout} ms`)), this.#timeout);
      this.#pending.push({ cmd, msgID: message.msgID, resolve, reject, timer });
      this.#socket.send(encode(REQUESTS[cmd], { cmd, ...message }));
    });
  }

  /** Closes the connection. A dead peer confirms no close, so this does not wait for it. */
  close(why = new ImdError(0, "closed")) {
    this.#end(why);
    this.#socket.close();
  }

  #end(why) {
    if (this.#socket.onclose === null) return;
    this.#socket.onclose = this.#socket.onmessage = null;
    for (const { reject, timer } of this.#pending.splice(0)) {
      clearTimeout(timer);
      reject(why);
    }
    this.onclose(why);
  }

  #receive(data) {
    let cmd;
    let message;
    try {
      const bytes = new Uint8Array(data);
      ({ cmd } = decode(HEAD, bytes));
      message = REPLIES[cmd] && decode(REPLIES[cmd], bytes);
    } catch (error) {
      return this.close(new ImdError(0, `a frame that can't be read: ${error.message}`));
    }
    // A command that this client does not know is ignored.
    if (!message) return;
    this.#error = cmd === ERROR ? new ImdError(message.errCode, message.errStr) : null;
    // The answer to a message never has its text: a frame with a text brings a message.
    if (cmd === NOTIFY || (cmd === SEND_P2P && message.msg !== "")) this.onpush(cmd, message);
    else if (cmd !== ERROR) this.#answer(cmd, message);
  }

  #answer(cmd, message) {
    const fits = (request) => request.cmd === cmd && (!message.msgID || message.msgID === request.msgID);
    const index = this.#pending.findIndex(fits);
    if (index < 0) return;
    const [{ resolve, reject, timer }] = this.#pending.splice(index, 1);
    clearTimeout(timer);
    if (message.errCode === 0) resolve(message);
    else reject(new ImdError(message.errCode, message.errStr));
  }
}

/** Asks a gateway for the WebSocket address of an access server. */
export async function askGateway(gateway, timeout = 10_000) {
  const connection = await Connection.open(gateway, timeout);
  try {
    const { wsAddr } = await connection.request(GATEWAY);
    if (!wsAddr) throw new ImdError(92001, "the gateway knows no WebSocket address of an access server: set ws_listen in [[access]]");
    return wsAddr;
  } finally {
    connection.close();
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// The client.

/** Returns a new id for a message. `crypto.randomUUID` would do, but pages over plain http: don't have it. */
export function newMsgID() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Converts an entry of an inbox. `version` is its place there: 1, 2, 3 and so on, without gaps. `kind` is "p2p", "group" or
 * "ack": then `source` has accepted this user's message `msgID`. `sentAt` is a Unix time in ms.
 */
const received = ({ incrementID, sourceUID, groupID, msgType, msgID, msg, sendTime }) => ({
  version: Number(incrementID), source: String(sourceUID), group: String(groupID), kind: msgType, msgID, text: msg,
  sentAt: Number(sendTime),
});

const DEFAULTS = {
  /** The version that this user read last, kept from an earlier client. What is newer comes after the login. */
  currentID: 0,
  /** Whether new messages are fetched without being asked for, after a login and after each notify. */
  follow: true,
  /** How long connecting, and each answer, may take, in ms. */
  timeout: 10_000,
  /** The time between two pings. A user counts as online for 15 s after a ping. */
  pingEvery: 5_000,
  /** The shortest and the longest pause before another attempt to connect. */
  minPause: 500,
  maxPause: 15_000,
};

/**
 * A user's connection to the stack. `on(event, listener)` listens to these events:
 *
 * - "message" (message): a new entry of the inbox. Each comes once, in the order of the versions. See `received`.
 * - "sync" ({ from, currentID, totalID, count }): a page of the inbox has brought `count` entries after version `from`.
 * - "notify" ({ currentID, totalID }): the inbox has entries after `currentID`, up to `totalID`.
 * - "push" ({ source, msgID, text }): a message came by itself. A page brings it too, as a "message" with its version.
 * - "login" ({ addr, again }): the user is logged in at the access server `addr`; `again` is the number of requests that
 *   were unanswered when the last connection was lost, and are sent again now.
 * - "close" ({ error, retryIn }): the connection is lost, or another attempt has failed. The next one is made in `retryIn`
 *   ms, or never if that is null: after a logout, if another session took over (93004), or if the login is refused.
 */
export class ImdClient {
  /** The user, after the first call of `login`. */
  uid = null;
  /** The address of the access server. */
  addr = null;
  /** "closed", "connecting", "connected" (not logged in yet), "online", or "waiting" (for the next attempt). */
  state = "closed";
  /** The version that was read last. Keep it, and give it to the next client of this user. */
  currentID;
  /** The newest version in the inbox, as far as the server has told. */
  totalID = 0;
  #gateway;
  #options;
  #token;
  #listeners = new Map();
  #connection = null;
  /** Messages and accepts without an answer, in their order. All of them can be repeated without being stored twice. */
  #unanswered = new Set();
  #wasOnline = false;
  #attempts = 0;
  #retry = null;
  #pings = null;
  #isReading = false;
  /** Counts the calls of `close`: an attempt to connect that began before one is given up. */
  #closes = 0;

  /** Connects to an access server, by way of the gateway at a URL such as ws://127.0.0.1:10100. See `DEFAULTS`. */
  static async connect(gateway, options) {
    const client = new ImdClient(gateway, options);
    await client.#open();
    return client;
  }

  constructor(gateway, options) {
    this.#gateway = gateway;
    this.#options = { ...DEFAULTS, ...options };
    this.currentID = this.#options.currentID;
  }

  /** Adds a listener to an event, and returns a function that removes it. */
  on(event, listener) {
    if (!this.#listeners.has(event)) this.#listeners.set(event, new Set());
    this.#listeners.get(event).add(listener);
    return () => this.#listeners.get(event).delete(listener);
  }

  /**
   * Logs a user in. From then on the client stays connected. `token` may be a function that returns the token or a promise
   * of it; it is called at each login, so that an expired token can be replaced. Resolves before missed messages have come.
   * Rejects if it does not succeed at the first attempt; it can be called again.
   */
  async login(uid, token) {
    this.uid = String(uid);
    this.#token = token;
    if (this.#connection === null) await this.#open();
    await this.#logIn();
  }

  /** Renews the user's presence. The client does so by itself. */
  async ping() {
    await this.#request(PING, { UID: this.uid });
  }

  /**
   * Sends a message to a user, and resolves once it is stored, even if that takes several connections. Rejects if the server
   * refuses it, or the client is closed before an answer has come: then send it again under the same msgID.
   */
  sendP2P(target, text, msgID = newMsgID()) {
    return this.#deliver(SEND_P2P, { sourceUID: this.uid, targetUID: String(target), msgID, msg: text });
  }

  /** Sends a message to a group, as `sendP2P` does. The sender's inbox gets it too. */
  sendGroup(group, text, msgID = newMsgID()) {
    return this.#deliver(SEND_GROUP, { sourceUID: this.uid, groupID: String(group), msgID, msg: text });
  }

  /** Accepts a message: its sender's inbox gets an entry of the kind "ack". */
  accept(source, msgID) {
    return this.#deliver(ACCEPT, { sourceUID: String(source), targetUID: this.uid, msgID });
  }

  /**
   * Returns a page of the inbox: `{ messages, currentID, totalID }`, at most `limit` messages, or as many as a frame holds.
   * It also tells the server that the user has read up to `currentID`. With `follow`, the client reads by itself.
   */
  async sync(currentID = this.currentID, limit = 0) {
    const reply = await this.#request(SYNC, { UID: this.uid, currentID, limit });
    const [reached, totalID] = [Number(reply.currentID), Number(reply.totalID)];
    // A server whose store was wiped has fewer messages than were read, and starts from the first one.
    const isNewStore = totalID < currentID;
    // Some stacks begin a page with the message that was read last (the quirk sync_inclusive).
    const messages = reply.Msgs.map(received).filter(({ version }) => isNewStore || version > currentID);
    return { messages, currentID: reached, totalID };
  }

  /** Logs the user out, and closes the client. */
  async logout() {
    this.#wasOnline = false;
    try {
      if (this.state === "online") await this.#request(LOGOUT, { UID: this.uid });
    } finally {
      this.close();
    }
  }

  /** Closes the client without a logout: the user counts as online for a while. `login` opens it again. */
  close() {
    this.#closes += 1;
    this.#wasOnline = false;
    this.#lost(new ImdError(0, "closed by this client"));
  }

  /** Cuts the connection, as a network does. The client connects again. For tests and demonstrations. */
  drop() {
    this.#connection?.close(new ImdError(0, "cut by this client"));
  }

  #emit(event, detail) {
    for (const listener of this.#listeners.get(event) ?? []) {
      try {
        listener(detail);
      } catch (error) {
        // The mistake of a listener must not stop the client; it is reported as one that nobody has caught.
        queueMicrotask(() => { throw error; });
      }
    }
  }

  async #request(cmd, message) {
    if (this.#connection === null) throw new ImdError(0, "not connected");
    const reply = await this.#connection.request(cmd, message);
    // Not for a login: a server that closes each session right after it would be asked without pauses.
    if (cmd !== LOGIN) this.#attempts = 0;
    return reply;
  }

  /** Sends a request that outlives its connection. Resolves with the msgID. */
  #deliver(cmd, message) {
    return new Promise((resolve, reject) => {
      if (this.state === "closed") throw new ImdError(0, "the client is closed");
      // A server closes a connection on a frame that is too long. Sent again each time, it would never end.
      if (encode(REQUESTS[cmd], { cmd, ...message }).length > MAX_FRAME) throw new ImdError(10001, "the message is too long");
      const delivery = { cmd, message, resolve, reject };
      this.#unanswered.add(delivery);
      if (this.state === "online") this.#transmit(delivery);
    });
  }

  async #transmit(delivery) {
    const { cmd, message, resolve, reject } = delivery;
    try {
      await this.#request(cmd, message);
      resolve({ msgID: message.msgID });
    } catch (error) {
      // Without an answer nobody knows whether it was stored. It is sent again after the next login.
      if (this.state !== "online") return;
      reject(error);
    }
    this.#unanswered.delete(delivery);
  }

  async #open() {
    clearTimeout(this.#retry);
    this.#retry = null;
    this.state = "connecting";
    const closes = this.#closes;
    try {
      const { timeout } = this.#options;
      const addr = await askGateway(this.#gateway, timeout);
      const connection = await Connection.open(addr, timeout);
      if (closes !== this.#closes) {
        connection.close();
        throw new ImdError(0, "closed by this client");
      }
      connection.onpush = (cmd, message) => this.#pushed(cmd, message);
      connection.onclose = (error) => this.#connection === connection && this.#lost(error);
      [this.#connection, this.addr, this.state] = [connection, addr, "connected"];
    } catch (error) {
      if (!this.#wasOnline && closes === this.#closes) this.state = "closed";
      throw error;
    }
  }

  async #logIn() {
    const token = typeof this.#token === "function" ? await this.#token() : this.#token;
    await this.#request(LOGIN, { UID: this.uid, token });
    this.state = "online";
    this.#wasOnline = true;
    clearInterval(this.#pings);
    this.#pings = setInterval(() => {
      this.ping().catch(() => {});
      // A page may have failed, and no notify follows then.
      if (this.totalID > this.currentID) this.#read();
    }, this.#options.pingEvery);
    this.#emit("login", { addr: this.addr, again: this.#unanswered.size });
    for (const delivery of this.#unanswered) this.#transmit(delivery);
    this.#read();
  }

  /** Ends the connection, and plans another attempt if the user was online and the reason may pass. */
  #lost(error) {
    if (this.#retry !== null && this.#wasOnline) return;
    const connection = this.#connection;
    const wasClosed = this.state === "closed";
    this.#connection = null;
    clearInterval(this.#pings);
    clearTimeout(this.#retry);
    this.#retry = null;
    let retryIn = null;
    if (this.#wasOnline && isPassing(error)) {
      const { minPause, maxPause } = this.#options;
      // A random part, so that the clients of a server that has died do not all come back at once.
      retryIn = Math.round(Math.min(maxPause, minPause * 2 ** this.#attempts) * (0.5 + Math.random() / 2));
      this.#attempts += 1;
      this.state = "waiting";
      this.#retry = setTimeout(() => this.#reconnect(), retryIn);
    } else {
      this.#wasOnline = false;
      this.state = "closed";
      for (const { reject } of this.#unanswered) reject(error);
      this.#unanswered.clear();
    }
    connection?.close(error);
    if (!wasClosed) this.#emit("close", { error, retryIn });
  }

  async #reconnect() {
    const closes = this.#closes;
    try {
      await this.#open();
      await this.#logIn();
    } catch (error) {
      if (closes === this.#closes) this.#lost(error);
    }
  }

  #pushed(cmd, message) {
    if (cmd === SEND_P2P) {
      this.#emit("push", { source: String(message.sourceUID), msgID: message.msgID, text: message.msg });
      return;
    }
    const [currentID, totalID] = [Number(message.currentID), Number(message.totalID)];
    this.totalID = Math.max(this.totalID, totalID);
    this.#emit("notify", { currentID, totalID });
    this.#read();
  }

  /** Reads pages until there is nothing new. The last request tells the server that everything was read. */
  async #read() {
    if (!this.#options.follow || this.#isReading) return;
    this.#isReading = true;
    try {
      for (;;) {
        const from = this.currentID;
        const { messages, currentID, totalID } = await this.sync(from);
        // First, so that a listener can keep it.
        [this.currentID, this.totalID] = [currentID, totalID];
        for (const message of messages) this.#emit("message", message);
        if (messages.length === 0) break;
        this.#emit("sync", { from, currentID, totalID, count: messages.length });
      }
    } catch {
      // The next login reads on, or the next notify, or the next ping.
    } finally {
      this.#isReading = false;
    }
  }
}
