//! Compares two frames of a server field by field.
//!
//! Serves `report`. Ids, versions, addresses and times differ from run to run, so these fields are compared only by
//! the kind of their values.

use imd::lab::{Direction, describe_frame};
use imd::proto::{Cmd, Reply};
use serde_json::{Value, json};

/// Fields whose values vary from run to run. They are compared by kind: empty, number, text or address.
const COMPARED_BY_KIND: [&str; 8] = [
    "errStr",
    "addr",
    "groupID",
    "msgID",
    "currentID",
    "totalID",
    "incrementID",
    "sendTime",
];

/// A field in which two replies differ.
#[derive(Debug, PartialEq)]
pub struct Difference {
    /// Path of the field, such as `Msgs[0].msg`.
    pub field: String,
    /// Value in the recorded reply, or null.
    pub recorded: Value,
    /// Value in the reply of this replay, or null.
    pub got: Value,
}

/// Decodes a frame of a server as JSON, with the field names of the wire contract.
pub fn fields(frame: &[u8]) -> Value {
    describe_frame(Direction::Out, Cmd::of(frame), frame)
}

/// Returns the fields in which two frames of a server differ. Fields to ignore are given by name, or by command and
/// name.
pub fn differences(recorded: &[u8], got: &[u8], ignored: &[String]) -> Vec<Difference> {
    let (from, to) = (Cmd::of(recorded), Cmd::of(got));
    if from != to {
        return vec![Difference {
            field: "cmd".into(),
            recorded: json!(from.map(Cmd::name)),
            got: json!(to.map(Cmd::name)),
        }];
    }
    let mut compared = Comparison {
        cmd: from.map(Cmd::name).unwrap_or_default(),
        ignored,
        found: Vec::new(),
    };
    let (was, is) = (message(from, recorded), message(from, got));
    if was != is {
        compared.add("message", json!(was), json!(is));
    }
    compared.value("", "", &fields(recorded), &fields(got));
    compared.found
}

/// Returns the message type of an answer. For login and ping, the original server sends another type than its schema
/// says, and the types decode differently.
fn message(cmd: Option<Cmd>, frame: &[u8]) -> Option<&'static str> {
    match Reply::decode(cmd?, frame)? {
        Reply::Error(_) => Some("Error"),
        Reply::Login(_) => Some("ResLogin"),
        _ => None,
    }
}

/// A comparison of two frames with the same command.
struct Comparison<'a> {
    cmd: &'a str,
    ignored: &'a [String],
    found: Vec<Difference>,
}

impl Comparison<'_> {
    /// Compares the values at `path`, whose last field is `name`.
    fn value(&mut self, path: &str, name: &str, recorded: &Value, got: &Value) {
        match (recorded, got) {
            (Value::Object(recorded), Value::Object(got)) => {
                let only_got = got.keys().filter(|key| !recorded.contains_key(*key));
                for key in recorded.keys().chain(only_got) {
                    if self.is_ignored(key) {
                        continue;
                    }
                    let dot = if path.is_empty() { "" } else { "." };
                    let path = format!("{path}{dot}{key}");
                    let of = |fields: &serde_json::Map<_, _>| {
                        fields.get(key).cloned().unwrap_or_default()
                    };
                    self.value(&path, key, &of(recorded), &of(got));
                }
            }
            (Value::Array(recorded), Value::Array(got)) => {
                if recorded.len() != got.len() {
                    let len = |entries: &[Value]| json!(format!("{} entries", entries.len()));
                    self.add(path, len(recorded), len(got));
                }
                for (index, (recorded, got)) in recorded.iter().zip(got).enumerate() {
                    self.value(&format!("{path}[{index}]"), name, recorded, got);
                }
            }
            _ if COMPARED_BY_KIND.contains(&name) && kind(name, recorded) == kind(name, got) => {}
            _ if recorded == got => {}
            _ => self.add(path, recorded.clone(), got.clone()),
        }
    }

    fn is_ignored(&self, name: &str) -> bool {
        let is = |ignored: &String| match ignored.split_once('.') {
            Some((cmd, field)) => cmd == self.cmd && field == name,
            None => ignored == name,
        };
        self.ignored.iter().any(is)
    }

    fn add(&mut self, field: &str, recorded: Value, got: Value) {
        let field = field.to_owned();
        self.found.push(Difference {
            field,
            recorded,
            got,
        });
    }
}

/// The kind of a value, for fields that are compared by it.
#[derive(Debug, PartialEq)]
enum ValueKind {
    Empty,
    Number,
    Text,
    Address,
}

/// Returns the kind of a value in the field `name`.
fn kind(name: &str, value: &Value) -> ValueKind {
    match value {
        Value::Number(number) if number.as_i64() == Some(0) => ValueKind::Empty,
        Value::Number(_) => ValueKind::Number,
        Value::String(text) if text.is_empty() => ValueKind::Empty,
        // A group id is a string, because 64 bits do not fit a JSON number everywhere.
        Value::String(text) if name == "groupID" && text == "0" => ValueKind::Empty,
        Value::String(text) if is_address(text) => ValueKind::Address,
        Value::String(_) => ValueKind::Text,
        _ => ValueKind::Empty,
    }
}

/// Returns whether a text has the form host:port.
fn is_address(text: &str) -> bool {
    let parts = text.rsplit_once(':');
    parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use imd::proto::{
        Error, OffsetMsg, ResLogin, ResSelectAccessServerForClient, ResSendP2pMsg, ResSyncMsg,
    };
    use prost::Message;

    fn found(recorded: &impl Message, got: &impl Message) -> Vec<String> {
        let found = differences(&recorded.encode_to_vec(), &got.encode_to_vec(), &[]);
        found.into_iter().map(|it| it.field).collect()
    }

    fn page() -> ResSyncMsg {
        let entry = |id: i64| OffsetMsg {
            source_uid: 1,
            target_uid: 2,
            group_id: 50,
            msg_type: "group".into(),
            msg_id: format!("id {id}"),
            msg: format!("text {id}"),
            increment_id: id,
            send_time: 1_700_000_000_000 + id,
        };
        ResSyncMsg {
            cmd: 20006,
            current_id: 2,
            total_id: 2,
            msgs: vec![entry(1), entry(2)],
            ..Default::default()
        }
    }

    #[test]
    fn ids_times_and_versions_are_compared_by_kind() {
        let mut other = page();
        (other.current_id, other.total_id) = (102, 104);
        for entry in &mut other.msgs {
            entry.increment_id += 100;
            entry.send_time += 5_000;
            entry.msg_id.push('x');
            entry.group_id = 51;
        }
        assert_eq!(found(&page(), &other), [""; 0]);
        let entry = &mut other.msgs[1];
        (entry.group_id, entry.send_time) = (0, 0);
        entry.msg_id.clear();
        other.total_id = 0;
        let expected = [
            "Msgs[1].groupID",
            "Msgs[1].msgID",
            "Msgs[1].sendTime",
            "totalID",
        ];
        let mut all = found(&page(), &other);
        all.sort();
        assert_eq!(all, expected);
    }

    #[test]
    fn texts_users_and_codes_are_compared_by_value() {
        let mut other = page();
        other.err_code = 90001;
        other.msgs[0].msg = "another".into();
        other.msgs[1].source_uid = 3;
        let mut all = found(&page(), &other);
        all.sort();
        assert_eq!(all, ["Msgs[0].msg", "Msgs[1].sourceUID", "errCode"]);
        other = page();
        other.msgs.remove(0);
        assert!(found(&page(), &other).contains(&"Msgs".to_owned()));
    }

    #[test]
    fn addresses_are_compared_as_addresses() {
        let of = |addr: &str| ResSelectAccessServerForClient {
            cmd: 10001,
            addr: addr.into(),
            ..Default::default()
        };
        assert_eq!(found(&of("127.0.0.1:11000"), &of("im.example:1")), [""; 0]);
        for other in ["", "im.example", ":1", "im.example:99999"] {
            assert_eq!(found(&of("127.0.0.1:11000"), &of(other)), ["addr"]);
        }
    }

    #[test]
    fn messages_of_other_types_differ() {
        let error = |cmd| Error {
            cmd,
            err_code: 0,
            err_str: "ok".into(),
        };
        assert_eq!(found(&error(20001), &error(90001)), ["cmd"]);
        assert_eq!(found(&error(20001), &error(77)), ["cmd"]);
        let schema = ResLogin {
            cmd: 20001,
            err_str: "ok".into(),
            ..Default::default()
        };
        assert_eq!(found(&error(20001), &schema), ["message"]);
        let undecodable = [0x08, 0xa1, 0x9c, 0x01, 0x1d];
        let all = differences(&error(20001).encode_to_vec(), &undecodable, &[]);
        assert!(all.iter().any(|it| it.field == "errCode"), "{all:?}");
    }

    #[test]
    fn ignored_fields_are_not_compared() {
        let with = |msg_id: &str| ResSendP2pMsg {
            cmd: 20003,
            target_uid: 7,
            msg_id: msg_id.into(),
            ..Default::default()
        };
        let differ = |ignored: &str| {
            let (one, other) = (with("a").encode_to_vec(), with("").encode_to_vec());
            !differences(&one, &other, &[ignored.to_owned()]).is_empty()
        };
        assert!(!differ("msgID") && !differ("SendP2PMsg.msgID"));
        assert!(differ("SyncMsg.msgID") && differ("targetUID"));
    }
}
