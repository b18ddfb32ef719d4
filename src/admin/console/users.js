// The page Users: the registered and the online users, the panel of one user, and forms that send messages, register users
// and create groups.

import { attempt, say } from "./notice.js";
import { field, h, set, write } from "./dom.js";
import { get, post, typedId } from "./api.js";
import { Inbox } from "./inbox.js";
import { listen } from "./journal.js";
import { t } from "./words.js";

const EVERY_MS = 1000;
/** How many users a page of the list has. */
const PAGE = 100;
/** How often the groups are requested. An answer has all members of all groups, and no frame of a client changes them. */
const GROUPS_EVERY_MS = 10_000;

export function mount(place, [asked]) {
  const chosen = asked === undefined ? undefined : typedId(asked);
  const people = h("div", { class: "people panel", id: "people" });
  const more = h("button", { type: "button", id: "people-more", hidden: true }, t("users.more"));
  const groups = h("div", { class: "panel groups", id: "groups" });
  const open = h("div", { class: "opened", id: "opened" });
  const inbox = chosen === undefined ? null : new Inbox(chosen);
  const isChosen = ({ uid }) => uid === chosen;
  let after = ["0"];
  let timer = null;
  let ended = false;
  let moved = true;
  let refused = false;
  let groupsDue = 0;

  const go = h("input", { id: "user-uid", inputmode: "numeric", placeholder: t("users.uid"), "aria-label": t("users.uid"), required: true });
  place.append(h("div", { class: "users" },
    h("div", { class: "side" },
      h("form", { class: "inline", onsubmit: (event) => {
        event.preventDefault();
        location.hash = `#/users/${encodeURIComponent(go.value.trim())}`;
      } }, go, h("button", { type: "submit", id: "user-open" }, t("users.open"))),
      h("h2", {}, t("users.known")), people, more,
      h("h2", {}, t("users.groups")), groups),
    h("div", { class: "opened" }, open, h("h2", {}, t("users.do")), forms(chosen, () => {
      groupsDue = 0;
      return look();
    }))));
  set(open, inbox ? inbox.element : h("p", { class: "empty panel" }, t("users.none-open")));

  /** Returns the users of all pages of the list that the user has opened. */
  async function listed() {
    const users = [];
    let next = null;
    for (const from of after) {
      const part = await get(`/v1/users?limit=${PAGE}&after=${from}`);
      users.push(...part.users);
      next = part.next;
    }
    more.hidden = next === null;
    more.onclick = () => {
      after = [...after, next];
      attempt(more, look);
    };
    return users;
  }

  /** Returns the user whose panel is open, even if the pages opened so far do not list that user. */
  async function opened(users) {
    const listed = users.find(isChosen);
    if (listed || more.hidden || !/^\d+$/.test(chosen)) return listed;
    return (await get(`/v1/users?limit=1&after=${BigInt(chosen) - 1n}`)).users.find(isChosen);
  }

  let known = [];
  async function grouped() {
    if (performance.now() >= groupsDue) {
      known = (await get("/v1/groups?limit=1000")).groups;
      groupsDue = performance.now() + GROUPS_EVERY_MS;
    }
    return known;
  }

  function person(user) {
    return h("a", { class: "person", href: `#/users/${user.uid}`, "data-uid": user.uid,
      "aria-current": isChosen(user) },
      h("i", { class: "online" }), h("b", {}, user.uid), h("span", { class: "who" }), h("span", { class: "where quiet" }),
      h("progress", { max: 1, "aria-label": t("users.presence") }));
  }

  let shown = "";
  let longest = 1;
  function showPeople(users) {
    const now = users.map(({ uid }) => uid).join();
    if (now !== shown || users.length === 0) {
      shown = now;
      set(people, users.map(person), users.length === 0 ? h("p", { class: "empty" }, t("users.nobody")) : null);
    }
    longest = Math.max(longest, ...users.map(({ online_ms: left }) => left));
    users.forEach((user, index) => {
      const row = people.children[index];
      const [dot, , who, where, left] = row.children;
      dot.classList.toggle("is-on", user.online);
      row.title = t(user.online ? "users.online" : user.session === null ? "users.away" : "users.silent");
      write(who, user.name ?? t(user.registered ? "users.no-name" : "users.not-registered"));
      write(where, user.access ?? "");
      left.hidden = !user.online;
      left.value = user.online_ms / longest;
    });
  }

  let shownGroups = null;
  function showGroups(all) {
    const now = JSON.stringify(all);
    if (now === shownGroups) return;
    shownGroups = now;
    set(groups, all.map((group) => h("div", { class: "group", "data-gid": group.gid },
      h("b", {}, group.name || t("users.no-name")), h("code", {}, group.gid),
      // `next` is there where not all members are listed.
      h("span", { class: "quiet" }, t("users.members", `${group.members.length}${group.next ? "+" : ""}`)),
      h("span", { class: "members" }, group.members.slice(0, 30).map((uid) => h("a", { href: `#/users/${uid}` }, uid))))),
      all.length === 0 ? h("p", { class: "empty" }, t("users.no-groups")) : null);
  }

  async function look() {
    clearTimeout(timer);
    if (document.visibilityState === "visible") {
      try {
        const [users, all] = await Promise.all([listed(), grouped()]);
        if (!ended) {
          showPeople(users);
          showGroups(all);
          await lookInside(users, all);
        }
      } catch (error) {
        if (!(error instanceof TypeError)) say(error.message, "bad");
      }
    }
    clearTimeout(timer);
    if (!ended) timer = setTimeout(look, EVERY_MS);
  }

  /** Shows the user whose panel is open. A refusal, such as for an id that is no number, is shown once and not each second. */
  async function lookInside(users, all) {
    if (!inbox || refused) return;
    try {
      const user = await opened(users);
      const news = moved;
      moved = false;
      await inbox.look(all, user, news);
    } catch (error) {
      refused = error.status < 500;
      throw error;
    }
  }

  const unlisten = listen(() => {
    moved = true;
  });
  look();
  return () => {
    ended = true;
    clearTimeout(timer);
    unlisten();
  };
}

/** Returns the forms that send a message as a user, register a user, and create a group. */
function forms(chosen, look) {
  const input = (id, props) => h("input", { id, autocomplete: "off", ...props });
  const number = { inputmode: "numeric", required: true };
  const form = (id, title, fields, act, done) => {
    const button = h("button", { type: "submit", class: "primary" }, title);
    return h("form", { id, class: "panel", onsubmit: (event) => {
      event.preventDefault();
      attempt(button, async () => {
        const answer = await act();
        await look();
        return answer;
      }, done);
    } }, h("h3", {}, title), fields, h("div", { class: "actions" }, button));
  };
  const from = input("send-from", { ...number, value: chosen ?? "" });
  const to = input("send-to", number);
  const kind = h("select", { id: "send-kind" }, h("option", { value: "to" }, t("send.user")), h("option", { value: "group" }, t("send.group")));
  const text = input("send-text", {});
  const [uid, name, pw] = [input("register-uid", number), input("register-name", {}), input("register-pw", { type: "password", autocomplete: "new-password" })];
  const [owner, title, members] = [input("group-owner", { ...number, value: chosen ?? "" }), input("group-name", {}), input("group-members", { placeholder: "8, 9" })];
  return h("div", { class: "forms" },
    form("send", t("send.title"), [field(t("send.from"), from), field(t("send.kind"), kind), field(t("send.to"), to), field(t("send.text"), text)],
      () => post("/v1/messages", { from: typedId(from.value), [kind.value]: typedId(to.value), text: text.value }),
      ({ msg_id: id }) => t("send.done", id)),
    form("register", t("register.title"), [field("uid", uid), field(t("register.name"), name), field(t("register.pw"), pw)],
      () => post("/v1/users", { uid: typedId(uid.value), name: name.value, pw: pw.value }),
      () => t("register.done", uid.value)),
    form("group", t("group.title"), [field(t("group.owner"), owner), field(t("group.name"), title), field(t("group.members"), members)],
      () => post("/v1/groups", { owner: typedId(owner.value), name: title.value,
        members: members.value.split(/[,\s]+/).filter(Boolean).map(typedId) }),
      ({ gid }) => t("group.done", gid)));
}
