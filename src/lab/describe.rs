//! Events and frames as JSON for people, with the field names of the contract.
//!
//! Serves the admin API, whose events `imd tail` and the console show, and `imd replay`, which compares frames field by field.
//! Tokens never appear. Texts of messages do, since the journal exists to show them.

use prost::Message;
use serde_json::{Value, json};

use super::{Direction, Event, EventKind};
use crate::proto::{
    Cmd, Error, OffsetMsg, Reply, ReqAcceptP2pMsgAck, ReqAccessServer, ReqLogin, ReqLogout,
    ReqPing, ReqSendGroupMsg, ReqSendP2pMsg, ReqSyncMsg, ResAcceptP2pMsgAck, ResLogin, ResLogout,
    ResNotify,
};

/// Returns an event as JSON. Tokens are left out; of a frame that can't be decoded only the length is given.
pub fn describe(event: &Event) -> Value {
    let detail = match &event.what {
        EventKind::Frame(_) | EventKind::Opened => Value::Null,
        EventKind::Closed(reason) => json!(reason),
        EventKind::Fault(name, action) => json!({ "name": name, "action": action }),
    };
    let direction = match event.what {
        EventKind::Frame(direction) => Some(direction),
        _ => None,
    };
    json!({
        "seq": event.seq,
        "ms": event.unix_ms,
        "us": u64::try_from(event.time.as_micros()).unwrap_or(u64::MAX),
        "what": event.what.name(),
        "detail": detail,
        "server": *event.server,
        "session": event.session,
        "uid": event.uid,
        "cmd": event.cmd.map(Cmd::name),
        "frame": direction.map(|direction| describe_frame(direction, event.cmd, &event.frame)),
    })
}

/// Returns the message of a frame as JSON, with the field names of the contract. Tokens are left out; of a frame that can't
/// be decoded only the length is given.
pub fn describe_frame(direction: Direction, cmd: Option<Cmd>, bytes: &[u8]) -> Value {
    let decoded = match direction {
        Direction::In => cmd.and_then(|cmd| request(cmd, bytes)),
        Direction::Out => cmd.and_then(|cmd| reply(cmd, bytes)),
    };
    decoded.unwrap_or_else(|| json!({ "bytes": bytes.len() }))
}

fn request(cmd: Cmd, bytes: &[u8]) -> Option<Value> {
    Some(match cmd {
        Cmd::ReqAccessServer => {
            ReqAccessServer::decode(bytes).ok()?;
            json!({})
        }
        Cmd::Login => {
            let request = ReqLogin::decode(bytes).ok()?;
            json!({ "UID": request.uid })
        }
        Cmd::Ping => {
            let request = ReqPing::decode(bytes).ok()?;
            json!({ "UID": request.uid })
        }
        Cmd::SendP2PMsg => {
            let request = ReqSendP2pMsg::decode(bytes).ok()?;
            json!({
                "sourceUID": request.source_uid, "targetUID": request.target_uid,
                "msgID": request.msg_id, "msg": request.msg,
            })
        }
        Cmd::AcceptP2PMsgAck => {
            let request = ReqAcceptP2pMsgAck::decode(bytes).ok()?;
            json!({
                "sourceUID": request.source_uid, "targetUID": request.target_uid,
                "msgID": request.msg_id,
            })
        }
        Cmd::SendGroupMsg => {
            let request = ReqSendGroupMsg::decode(bytes).ok()?;
            json!({
                "sourceUID": request.source_uid, "groupID": request.group_id.to_string(),
                "msgID": request.msg_id, "msg": request.msg,
            })
        }
        Cmd::SyncMsg => {
            let request = ReqSyncMsg::decode(bytes).ok()?;
            json!({ "UID": request.uid, "currentID": request.current_id, "limit": request.limit })
        }
        Cmd::Logout => {
            let request = ReqLogout::decode(bytes).ok()?;
            json!({ "UID": request.uid })
        }
        Cmd::Notify | Cmd::ErrServer => return None,
    })
}

fn reply(cmd: Cmd, bytes: &[u8]) -> Option<Value> {
    if cmd == Cmd::Notify {
        let notify = ResNotify::decode(bytes).ok()?;
        return Some(json!({ "currentID": notify.current_id, "totalID": notify.total_id }));
    }
    Some(match Reply::decode(cmd, bytes)? {
        Reply::Error(Error {
            err_code, err_str, ..
        })
        | Reply::Login(ResLogin {
            err_code, err_str, ..
        })
        | Reply::Ack(ResAcceptP2pMsgAck {
            err_code, err_str, ..
        })
        | Reply::Logout(ResLogout {
            err_code, err_str, ..
        }) => json!({ "errCode": err_code, "errStr": err_str }),
        Reply::SelectAccess(reply) => {
            json!({ "errCode": reply.err_code, "errStr": reply.err_str, "addr": reply.addr })
        }
        Reply::P2p(reply) => {
            let mut described = json!({
                "errCode": reply.err_code, "errStr": reply.err_str, "sourceUID": reply.source_uid,
                "targetUID": reply.target_uid, "msgID": reply.msg_id,
            });
            // Only a message that is pushed has a text.
            if let Some(fields) = described.as_object_mut().filter(|_| !reply.msg.is_empty()) {
                fields.insert("msg".into(), reply.msg.into());
            }
            described
        }
        Reply::Group(reply) => json!({
            "errCode": reply.err_code, "errStr": reply.err_str,
            "groupID": reply.group_id.to_string(), "msgID": reply.msg_id,
        }),
        Reply::Sync(reply) => {
            let entries: Vec<Value> = reply.msgs.iter().map(entry).collect();
            json!({
                "errCode": reply.err_code, "errStr": reply.err_str,
                "currentID": reply.current_id, "totalID": reply.total_id, "Msgs": entries,
            })
        }
    })
}

fn entry(entry: &OffsetMsg) -> Value {
    json!({
        "sourceUID": entry.source_uid, "targetUID": entry.target_uid,
        "groupID": entry.group_id.to_string(), "msgType": entry.msg_type, "msgID": entry.msg_id,
        "msg": entry.msg, "incrementID": entry.increment_id, "sendTime": entry.send_time,
    })
}
