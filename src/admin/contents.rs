//! The handlers that list users, groups and inboxes, and that register users, create groups and send messages.
//!
//! Serves `routes`, and with [`page`] the list of sessions in `servers`. Listing changes nothing: no read mark moves. Changes
//! go through the services, as those of clients do: the same checks and faults apply.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Deps;
use super::answer::{Json, JsonBody, PathParams, Problem, QueryParams};
use crate::config::Secret;
use crate::directory::Present;
use crate::id::{GroupId, MsgId, Uid, Version};
use crate::number::{Id, Whole};
use crate::service::{Refusal, Target};
use crate::store::{Entry, Group, PageLimit};

/// How many items a page has, if the request sets no limit.
const DEFAULT_LIMIT: usize = 100;

/// How many items the largest page has.
const MAX_LIMIT: usize = 1_000;

/// The largest size of the entries in a page of an inbox, in bytes as they are encoded on the wire.
const MAX_PAGE_BYTES: usize = 1 << 20;

/// The query of a request for a page of a list: at most `limit` items, with ids above `after`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PageQuery {
    after: Option<Id>,
    limit: Option<usize>,
}

impl PageQuery {
    /// Returns `after` and `limit`, with their defaults.
    ///
    /// # Errors
    ///
    /// The error of [`limit`].
    fn bounds(self) -> Result<(i64, usize), Problem> {
        let PageQuery { after, limit } = self;
        Ok((after.map_or(0, |Whole(after)| after), self::limit(limit)?))
    }
}

/// Returns the size of a page, in items, for the limit that a request sets.
///
/// # Errors
///
/// 400 if the limit is 0 or more than [`MAX_LIMIT`].
pub fn limit(requested: Option<usize>) -> Result<usize, Problem> {
    let limit = requested.unwrap_or(DEFAULT_LIMIT);
    if (1..=MAX_LIMIT).contains(&limit) {
        Ok(limit)
    } else {
        let why = format!("limit: {limit} is not from 1 to {MAX_LIMIT}");
        Err(Problem::bad(why))
    }
}

/// The body of a request that registers a user.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    uid: Id,
    #[serde(default)]
    name: String,
    #[serde(default)]
    pw: Secret,
}

/// The body of a request that creates a group.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewGroup {
    owner: Id,
    #[serde(default)]
    name: String,
    #[serde(default)]
    members: Vec<Id>,
}

/// The body of a request that sends a message to either a user (`to`) or a group.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMessage {
    from: Id,
    to: Option<Id>,
    group: Option<Id>,
    #[serde(default)]
    msg_id: String,
    #[serde(default)]
    text: String,
}

/// Returns the answer for a page of a list, under the key `name`, with the id after which the next page begins.
///
/// The caller passes up to `limit + 1` items: if one is too many for the page, there is a next page. `id` returns the id
/// of an item.
pub fn page<T, I: ToString>(
    name: &str,
    mut items: Vec<T>,
    limit: usize,
    id: impl Fn(&T) -> I,
    to_json: impl Fn(T) -> Value,
) -> Json<Value> {
    let has_more = items.len() > limit;
    items.truncate(limit);
    let last = items.last().filter(|_| has_more).map(id);
    let items: Vec<Value> = items.into_iter().map(to_json).collect();
    Json(json!({ name: items, "next": last.map(|last| last.to_string()) }))
}

/// Answers a page of the users: those who are registered, and those who have a session without being registered.
///
/// # Errors
///
/// 400 for a wrong `limit`, and 500 if the store has failed.
pub async fn users(
    State(deps): State<Arc<Deps>>,
    QueryParams(query): QueryParams<PageQuery>,
) -> Result<Json<Value>, Problem> {
    let (after, limit) = query.bounds()?;
    let services = &deps.core.services;
    let after = Uid(after);
    let registered = deps.core.store.users(after, limit + 1).await?;
    let mut names: BTreeMap<Uid, Option<String>> = BTreeMap::new();
    names.extend(
        services
            .directory()
            .users(after)
            .await
            .into_iter()
            .map(|uid| (uid, None)),
    );
    names.extend(
        registered
            .into_iter()
            .map(|(uid, user)| (uid, Some(user.name))),
    );
    let mut listed = Vec::new();
    for (uid, name) in names.into_iter().take(limit + 1) {
        let present = services.directory().look_up(uid).await;
        listed.push((uid, name, present));
    }
    let to_json = |(uid, name, present)| user_json(&deps, uid, name, present);
    Ok(page("users", listed, limit, |(uid, ..)| *uid, to_json))
}

/// Returns a user as JSON. `name` is the name of a registered user; `present` is what the directory knows of a user with a
/// session.
fn user_json(deps: &Deps, uid: Uid, name: Option<String>, present: Option<Present>) -> Value {
    let access = present.as_ref().and_then(|present| {
        let servers = deps.stack.access.all().into_iter();
        let mut servers = servers.filter(|server| server.sessions().has(present.session.id()));
        Some(servers.next()?.name().to_owned())
    });
    let left = present
        .as_ref()
        .map_or(0, |present| present.expires_in.as_millis());
    json!({
        "uid": uid,
        "registered": name.is_some(),
        "name": name,
        "online": left > 0,
        "online_ms": u64::try_from(left).unwrap_or(u64::MAX),
        "access": access,
        "session": present.map(|present| present.session.id().0),
    })
}

/// Registers a user.
///
/// # Errors
///
/// 409 if the uid is taken, 400 for another value that is wrong, and 500 if the store has failed or has no room.
pub async fn add_user(
    State(deps): State<Arc<Deps>>,
    JsonBody(NewUser {
        uid: Whole(uid),
        name,
        pw,
    }): JsonBody<NewUser>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let pw = pw.expose().to_owned();
    let _blocked = deps.core.services.block_replacement().await;
    let registered = deps.core.services.register(Uid(uid), name, pw).await;
    registered.map_err(Refusal::from)?;
    Ok((StatusCode::CREATED, Json(json!({ "uid": uid }))))
}

/// Answers a page of the groups, each with its first members. A group with more members has a `next`, as that of [`group`].
///
/// # Errors
///
/// 400 for a wrong `limit`, and 500 if the store has failed.
pub async fn groups(
    State(deps): State<Arc<Deps>>,
    QueryParams(query): QueryParams<PageQuery>,
) -> Result<Response, Problem> {
    let (after, limit) = query.bounds()?;
    let groups = deps.core.store.groups(GroupId(after), limit + 1).await?;
    let to_json = |group| {
        let (mut json, next) = group_json(group, Uid(0), DEFAULT_LIMIT);
        if let (Some(next), Some(fields)) = (next, json.as_object_mut()) {
            fields.insert("next".into(), next.into());
        }
        json
    };
    // The groups of one page may have millions of members together.
    let answer = move || page("groups", groups, limit, |group| group.gid, to_json);
    deps.large_answers.make(answer).await
}

/// Answers a group with a page of its members.
///
/// # Errors
///
/// 404 if there is no such group, 400 for a wrong `limit`, and 500 if the store has failed.
pub async fn group(
    State(deps): State<Arc<Deps>>,
    PathParams(Whole(gid)): PathParams<Id>,
    QueryParams(query): QueryParams<PageQuery>,
) -> Result<Json<Value>, Problem> {
    let (after, limit) = query.bounds()?;
    // The list begins with the group itself, if it exists.
    let before = GroupId(gid.saturating_sub(1));
    let found = deps.core.store.groups(before, 1).await?;
    let mut found = found.into_iter().filter(|group| group.gid == GroupId(gid));
    let group = found
        .next()
        .ok_or_else(|| Problem::missing(format!("there is no group {gid}")))?;
    let (mut json, next) = group_json(group, Uid(after), limit);
    if let Some(fields) = json.as_object_mut() {
        fields.insert("next".into(), next.into());
    }
    Ok(Json(json))
}

/// Returns a group with its members above `after`, at most `limit`, and the id after which the next page of members begins.
fn group_json(group: Group, after: Uid, limit: usize) -> (Value, Option<String>) {
    let Group {
        gid,
        name,
        owner,
        mut members,
    } = group;
    members.drain(..members.partition_point(|&member| member <= after));
    let has_more = members.len() > limit;
    members.truncate(limit);
    let last = members.last().filter(|_| has_more);
    let next = last.map(|last| last.to_string());
    let json = json!({
        "gid": gid,
        "name": name,
        "owner": owner,
        "members": members,
    });
    (json, next)
}

/// Creates a group with all its members.
///
/// # Errors
///
/// 404 if a member has to be registered and is not, 400 for another value that is wrong, and 500 if the store has failed or
/// has no room. No group is created then.
pub async fn add_group(
    State(deps): State<Arc<Deps>>,
    JsonBody(NewGroup {
        owner: Whole(owner),
        name,
        members,
    }): JsonBody<NewGroup>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let _blocked = deps.core.services.block_replacement().await;
    let members: Vec<Uid> = members.into_iter().map(|Whole(uid)| Uid(uid)).collect();
    let created = deps
        .core
        .services
        .create_group(Uid(owner), name, &members)
        .await;
    let gid = created.map_err(Refusal::from)?;
    Ok((StatusCode::CREATED, Json(json!({ "gid": gid }))))
}

/// Answers a page of the inboxes, each with its counts of stored, delivered, pending and removed messages.
///
/// # Errors
///
/// 400 for a wrong `limit`.
pub async fn inboxes(
    State(deps): State<Arc<Deps>>,
    QueryParams(query): QueryParams<PageQuery>,
) -> Result<Json<Value>, Problem> {
    let (after, limit) = query.bounds()?;
    let inboxes = deps.core.inboxes(Uid(after), limit + 1);
    let to_json = |inbox| json!(inbox);
    Ok(page("inboxes", inboxes, limit, |inbox| inbox.uid, to_json))
}

/// Answers a page of an inbox. No read mark moves, and nothing counts as delivered.
///
/// # Errors
///
/// 400 for a wrong `limit`, and 500 if the store has failed.
pub async fn inbox(
    State(deps): State<Arc<Deps>>,
    PathParams(Whole(uid)): PathParams<Id>,
    QueryParams(query): QueryParams<PageQuery>,
) -> Result<Json<Value>, Problem> {
    let (after, entries) = query.bounds()?;
    let store = &deps.core.store;
    let state = store.inbox_state(Uid(uid)).await?;
    let limit = PageLimit {
        entries,
        bytes: MAX_PAGE_BYTES,
    };
    let page = store.peek(Uid(uid), Version(after), limit).await?;
    Ok(Json(json!({
        "uid": uid,
        "read": state.read,
        "total": page.total,
        "entries": page.entries.iter().map(entry_json).collect::<Vec<_>>(),
        "next": (page.current < page.total).then(|| page.current.to_string()),
    })))
}

/// Returns an entry as JSON, with the keys of the wire contract. The group's id is a text, because not every JSON reader can
/// hold the number.
fn entry_json(entry: &Entry) -> Value {
    let message = &entry.message;
    json!({
        "version": entry.version,
        "msgType": message.kind.msg_type(),
        "sourceUID": message.source,
        "groupID": GroupId::or_zero(message.group()).to_string(),
        "msgID": message.msg_id().as_str(),
        "msg": message.text(),
        "sendTime": message.sent_at,
    })
}

/// Sends a message as a user, and answers its id once it is stored.
///
/// # Errors
///
/// 404 or 409 if the sender, the receiver or the group does not allow the message, 400 if the request itself is wrong, and
/// 500 if the store has failed or has no room: the status of the [`Refusal`] of the message.
pub async fn send(
    State(deps): State<Arc<Deps>>,
    JsonBody(message): JsonBody<NewMessage>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let to = match (message.to, message.group) {
        (Some(Whole(uid)), None) => Target::User(Uid(uid)),
        (None, Some(Whole(gid))) => Target::Group(GroupId(gid)),
        _ => return Err(Problem::bad("a message has either to or group")),
    };
    let NewMessage {
        from: Whole(from),
        msg_id,
        text,
        ..
    } = &message;
    let _blocked = deps.core.services.block_replacement().await;
    let sent = deps
        .core
        .services
        .send_as(Uid(*from), to, MsgId(msg_id), text)
        .await
        .map_err(Refusal::from)?;
    Ok((StatusCode::CREATED, Json(json!({ "msg_id": sent }))))
}
