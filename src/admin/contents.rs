//! What the store holds, and putting something into it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Parts;
use super::answer::{Body, InPath, Json, Problem, query};
use crate::config::Secret;
use crate::number::{Id, Whole};
use crate::service::{Refusal, To};
use crate::store::{Entry, Group, PageLimit};

/// So much of a list is answered, unless it is asked for less or more.
const USUAL: usize = 100;

/// So much at the most.
const MOST: usize = 1_000;

/// What entries may take in an answer, in bytes of the wire.
const BYTES: usize = 1 << 20;

/// Which part of a list is meant.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Part {
    after: Option<Id>,
    limit: Option<usize>,
}

impl Part {
    /// After what, and how many.
    fn read(part: Result<Query<Part>, QueryRejection>) -> Result<(i64, usize), Problem> {
        let Part { after, limit } = query(part)?;
        Ok((after.map_or(0, |Whole(after)| after), self::limit(limit)?))
    }
}

/// How many items of a list are answered, where so many are asked for.
///
/// # Errors
///
/// When they are none, or too many for one answer.
pub fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(USUAL);
    if (1..=MOST).contains(&limit) {
        Ok(limit)
    } else {
        let why = format!("limit: {limit} is not from 1 to {MOST}");
        Err(Problem::bad(why))
    }
}

/// A new user.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    uid: Id,
    #[serde(default)]
    name: String,
    #[serde(default)]
    pw: Secret,
}

/// A new group.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewGroup {
    owner: Id,
    #[serde(default)]
    name: String,
    #[serde(default)]
    members: Vec<Id>,
}

/// A message.
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

/// One part of a list, of which one item more than `limit` was asked for: `id` says after which it goes on, if it does.
pub fn list<T, I: ToString>(
    what: &str,
    mut items: Vec<T>,
    limit: usize,
    id: impl Fn(&T) -> I,
    tell: impl Fn(T) -> Value,
) -> Json<Value> {
    let has_more = items.len() > limit;
    items.truncate(limit);
    let last = items.last().filter(|_| has_more).map(id);
    let items: Vec<Value> = items.into_iter().map(tell).collect();
    Json(json!({ what: items, "next": last.map(|last| last.to_string()) }))
}

/// The users: who is registered, and who is there.
pub async fn users(
    State(parts): State<Arc<Parts>>,
    part: Result<Query<Part>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let (after, limit) = Part::read(part)?;
    let services = &parts.core.services;
    let registered = services.store().users(after, limit + 1).await?;
    let mut names: BTreeMap<i64, Option<String>> = BTreeMap::new();
    names.extend(
        services
            .presence()
            .uids(after)
            .into_iter()
            .map(|uid| (uid, None)),
    );
    names.extend(
        registered
            .into_iter()
            .map(|(uid, user)| (uid, Some(user.name))),
    );
    let names: Vec<_> = names.into_iter().take(limit + 1).collect();
    let tell = |(uid, name)| user(&parts, uid, name);
    Ok(list("users", names, limit, |(uid, _)| *uid, tell))
}

fn user(parts: &Parts, uid: i64, name: Option<String>) -> Value {
    let seen = parts.core.services.presence().seen(uid);
    let access = seen.as_ref().and_then(|(session, _)| {
        let servers = parts.stack.access.all().into_iter();
        let mut servers = servers.filter(|server| server.sessions().has(session.id()));
        Some(servers.next()?.name().to_owned())
    });
    let left = seen.as_ref().map_or(0, |(_, left)| left.as_millis());
    json!({
        "uid": uid,
        "registered": name.is_some(),
        "name": name,
        "online": left > 0,
        "online_ms": u64::try_from(left).unwrap_or(u64::MAX),
        "access": access,
        "session": seen.map(|(session, _)| session.id().0),
    })
}

/// Registers someone.
pub async fn add_user(
    State(parts): State<Arc<Parts>>,
    Body(NewUser {
        uid: Whole(uid),
        name,
        pw,
    }): Body<NewUser>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let pw = pw.expose().to_owned();
    let _inside = parts.core.services.enter().await;
    let registered = parts.core.services.register(uid, name, pw).await;
    registered.map_err(Refusal::from)?;
    Ok((StatusCode::CREATED, Json(json!({ "uid": uid }))))
}

/// The groups.
pub async fn groups(
    State(parts): State<Arc<Parts>>,
    part: Result<Query<Part>, QueryRejection>,
) -> Result<Response, Problem> {
    let (after, limit) = Part::read(part)?;
    let groups = parts.core.services.store().groups(after, limit + 1).await?;
    let tell = |group| {
        let Group {
            gid,
            name,
            owner,
            members,
        } = group;
        json!({
            "gid": gid,
            "name": name,
            "owner": (owner > 0).then_some(owner),
            "members": members,
        })
    };
    // All of them together may have millions of members.
    let answer = move || list("groups", groups, limit, |group| group.gid, tell);
    parts.large_answers.make(answer).await
}

/// Makes a group with its members, or none at all.
pub async fn add_group(
    State(parts): State<Arc<Parts>>,
    Body(NewGroup {
        owner: Whole(owner),
        name,
        members,
    }): Body<NewGroup>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let _inside = parts.core.services.enter().await;
    let members: Vec<i64> = members.into_iter().map(|Whole(uid)| uid).collect();
    let created = parts
        .core
        .services
        .create_group(owner, name, &members)
        .await;
    let gid = created.map_err(Refusal::from)?;
    Ok((StatusCode::CREATED, Json(json!({ "gid": gid }))))
}

/// What became of the messages, inbox by inbox.
pub async fn inboxes(
    State(parts): State<Arc<Parts>>,
    part: Result<Query<Part>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let (after, limit) = Part::read(part)?;
    let inboxes = parts.core.services.inboxes(after, limit + 1);
    let tell = |inbox| json!(inbox);
    Ok(list("inboxes", inboxes, limit, |inbox| inbox.uid, tell))
}

/// An inbox: looking into it leaves no trace.
pub async fn inbox(
    State(parts): State<Arc<Parts>>,
    InPath(Whole(uid)): InPath<Id>,
    part: Result<Query<Part>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let (after, entries) = Part::read(part)?;
    let store = parts.core.services.store();
    let level = store.level(uid).await?;
    let limit = PageLimit {
        entries,
        bytes: BYTES,
    };
    let page = store.peek(uid, after, limit).await?;
    Ok(Json(json!({
        "uid": uid,
        "read": level.read,
        "total": page.total,
        "entries": page.entries.iter().map(entry).collect::<Vec<_>>(),
        "next": (page.current < page.total).then(|| page.current.to_string()),
    })))
}

/// With the names of the wire; a group's id as text, since it does not fit a JSON number everywhere.
fn entry(entry: &Entry) -> Value {
    let message = &entry.message;
    json!({
        "version": entry.version,
        "msgType": message.kind.msg_type(),
        "sourceUID": message.source,
        "groupID": message.group.to_string(),
        "msgID": message.msg_id(),
        "msg": message.text(),
        "sendTime": message.sent_at,
    })
}

/// Sends a message as a user.
pub async fn send(
    State(parts): State<Arc<Parts>>,
    Body(message): Body<NewMessage>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let to = match (message.to, message.group) {
        (Some(Whole(uid)), None) => To::User(uid),
        (None, Some(Whole(gid))) => To::Group(gid),
        _ => return Err(Problem::bad("a message has either to or group")),
    };
    let NewMessage {
        from: Whole(from),
        msg_id,
        text,
        ..
    } = &message;
    let _inside = parts.core.services.enter().await;
    let sent = parts.core.services.send_as(*from, to, msg_id, text).await?;
    Ok((StatusCode::CREATED, Json(json!({ "msg_id": sent }))))
}
