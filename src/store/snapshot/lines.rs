//! A snapshot as a file: JSON lines, one thing each. The first says the format, the last how many lines there are, and each
//! ends with a check of what stands before it: a line that was altered is found. One that was written by hand has none.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead, Write};
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::check::Checked;
use super::{Ends, LoadError, Snapshot};
use crate::id::{GroupId, MsgId, Uid, Version};
use crate::store::{Group, Kind, Message, User};
use crate::text::{LineError, LineReader};

/// The format that is written, and the newest that is read.
const FORMAT: u64 = 1;

/// The longest first line, in bytes.
const LONGEST_HEAD: usize = 64 << 10;

/// The longest line with lists, in bytes: a message to a group of [`MOST_MEMBERS`].
const LONGEST_LIST: usize = 64 << 20;

/// The longest other line, in bytes.
const LONGEST_LINE: usize = 16 << 20;

/// The most members of a group that a config allows.
const MOST_MEMBERS: usize = 1 << 20;

const NO_SNAPSHOT: &str = "this is no snapshot of imd";

/// What the reader of a list says, within this file, of a list with too many items.
const TOO_MANY: &str = "too many items";

/// What stands between a line and its check.
const CHECK: &str = ",\"check\":\"";

/// A line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line<'a> {
    #[serde(rename = "imd_snapshot")]
    Head {
        format: u64,
        newest: i64,
    },
    User(UserLine<'a>),
    Group(GroupLine<'a>),
    Inbox(InboxLine),
    Message(Box<MessageLine<'a>>),
    /// So many lines came before.
    End {
        lines: usize,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserLine<'a> {
    uid: Uid,
    name: Cow<'a, str>,
    password_hash: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupLine<'a> {
    gid: GroupId,
    name: Cow<'a, str>,
    /// 0 where it is not known.
    owner: Uid,
    #[serde(deserialize_with = "list")]
    members: Cow<'a, [Uid]>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InboxLine {
    uid: Uid,
    read: Version,
    removed: Version,
    total: Version,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageLine<'a> {
    kind: KindName,
    source: Uid,
    #[serde(
        default,
        deserialize_with = "nonzero",
        skip_serializing_if = "Option::is_none"
    )]
    group: Option<GroupId>,
    msg_id: Cow<'a, str>,
    text: Cow<'a, str>,
    sent_at: i64,
    #[serde(deserialize_with = "list")]
    receivers: Cow<'a, [Uid]>,
    #[serde(deserialize_with = "list")]
    places: Cow<'a, [(Uid, Version)]>,
}

/// Reads the id of a group, where 0 says the same as no field at all.
fn nonzero<'de, D: Deserializer<'de>>(from: D) -> Result<Option<GroupId>, D::Error> {
    i64::deserialize(from).map(GroupId::nonzero)
}

/// [`Kind`], as it is written.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KindName {
    P2p,
    Group,
    Ack,
}

impl From<Kind> for KindName {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::P2p => KindName::P2p,
            Kind::Group => KindName::Group,
            Kind::Ack => KindName::Ack,
        }
    }
}

impl From<KindName> for Kind {
    fn from(name: KindName) -> Self {
        match name {
            KindName::P2p => Kind::P2p,
            KindName::Group => Kind::Group,
            KindName::Ack => Kind::Ack,
        }
    }
}

impl Snapshot {
    /// Writes it as a file. Whoever reads that reads password hashes and texts.
    ///
    /// # Errors
    ///
    /// What `out` says.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut lines = 0;
        self.lines(|line| {
            lines += 1;
            write_line(out, line)
        })?;
        write_line(out, &Line::End { lines })
    }

    fn lines(&self, mut each: impl FnMut(&Line<'_>) -> io::Result<()>) -> io::Result<()> {
        each(&Line::Head {
            format: FORMAT,
            newest: self.newest,
        })?;
        for (uid, user) in &self.users {
            each(&Line::User(UserLine {
                uid: *uid,
                name: (&user.name).into(),
                password_hash: (&user.password_hash).into(),
            }))?;
        }
        for group in &self.groups {
            each(&Line::Group(GroupLine {
                gid: group.gid,
                name: (&group.name).into(),
                owner: group.owner.unwrap_or_default(),
                members: (&group.members).into(),
            }))?;
        }
        for &Ends {
            uid,
            read,
            removed,
            total,
        } in &self.inboxes
        {
            each(&Line::Inbox(InboxLine {
                uid,
                read,
                removed,
                total,
            }))?;
        }
        for stored in &self.messages {
            let message = &stored.message;
            each(&Line::Message(Box::new(MessageLine {
                kind: message.kind.into(),
                source: message.source,
                group: message.group(),
                msg_id: message.msg_id().as_str().into(),
                text: message.text().into(),
                sent_at: message.sent_at,
                receivers: (&stored.receivers).into(),
                places: (&stored.places).into(),
            })))?;
        }
        Ok(())
    }

    /// Reads a file. What it answers is whole, and fits together. Lines may end with CRLF, and a byte order mark may stand
    /// before them.
    ///
    /// # Errors
    ///
    /// When it is damaged, cut, of a newer `imd`, or no snapshot.
    pub fn read(file: &[u8]) -> Result<Snapshot, LoadError> {
        Snapshot::read_from(file)
    }

    /// Reads a file line by line: beside what the snapshot holds, one line of it is in memory at a time.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), and when `file` can't be read, a line is too long, or is no text.
    pub fn read_from(file: impl BufRead) -> Result<Snapshot, LoadError> {
        let mut checked = None;
        let mut has_ended = false;
        let mut count = 0;
        let mut lines = LineReader::new(file);
        loop {
            let wrong = |why: String| LoadError {
                line: count + 1,
                why,
            };
            let limit = |line: &[u8]| longest(count, line);
            let line = lines
                .next(limit)
                .map_err(|error: LineError| wrong(error.to_string()))?;
            let Some(line) = line else { break };
            if has_ended {
                return Err(wrong("there is something behind the last line".into()));
            }
            let line = unchecked(line).map_err(wrong)?;
            match &mut checked {
                None => checked = Some(begin(&line).map_err(wrong)?),
                Some(checked) => match read_line(&line).map_err(wrong)? {
                    Line::End { lines } if lines == count => has_ended = true,
                    Line::End { lines } => {
                        let why = format!("{count} lines came before, and it says {lines}");
                        return Err(wrong(why));
                    }
                    line => take(checked, line).map_err(wrong)?,
                },
            }
            count += 1;
        }
        let line = count.max(1);
        if checked.is_none() {
            let why = NO_SNAPSHOT.into();
            return Err(LoadError { line, why });
        }
        match checked {
            Some(checked) if has_ended => checked.finish().map_err(|why| LoadError { line, why }),
            _ => Err(LoadError {
                line,
                why: "the file ends here, before its last line, which says \"end\"".into(),
            }),
        }
    }
}

/// How long a line may be that begins so, with `count` lines before it.
fn longest(count: usize, line: &[u8]) -> usize {
    let line = line.trim_ascii_start();
    if count == 0 {
        LONGEST_HEAD
    } else if line.starts_with(b"{\"message\"") || line.starts_with(b"{\"group\"") {
        LONGEST_LIST
    } else {
        LONGEST_LINE
    }
}

/// Reads a list that has no more items than a group has members: a longer one is not read to its end.
fn list<'de, 'a, D, T>(from: D) -> Result<Cow<'a, [T]>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Clone,
{
    struct Items<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Vec<T>, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = from.next_element()? {
                if items.len() == MOST_MEMBERS {
                    return Err(A::Error::custom(TOO_MANY));
                }
                items.push(item);
            }
            Ok(items)
        }
    }

    from.deserialize_seq(Items(PhantomData)).map(Cow::Owned)
}

fn write_line(out: &mut impl Write, line: &Line<'_>) -> io::Result<()> {
    let mut text = serde_json::to_string(line)?;
    // The brace that closes it comes behind the check.
    text.pop();
    let check = check(text.as_bytes());
    writeln!(out, "{text}{CHECK}{check}\"}}")
}

fn check(text: &[u8]) -> String {
    let [a, b, c, d, ..] = xxh3_64(text).to_be_bytes();
    base16ct::lower::encode_string(&[a, b, c, d])
}

/// A line without its check, if that holds. One that has none is taken as it is.
fn unchecked(line: &str) -> Result<Cow<'_, str>, String> {
    // No text within the line can look so: quotes in it have a backslash before them.
    let Some((text, rest)) = line.rsplit_once(CHECK) else {
        return Ok(line.into());
    };
    if rest.strip_suffix("\"}") != Some(&check(text.as_bytes())) {
        return Err("it is damaged: its check does not fit it (a line that is changed by hand goes without)".into());
    }
    Ok(format!("{text}}}").into())
}

/// The first line.
fn begin(line: &str) -> Result<Checked, String> {
    let head: Option<Value> = serde_json::from_str(line).ok();
    let format = head.and_then(|head| head.get("imd_snapshot")?.get("format")?.as_u64());
    match format {
        None => return Err(NO_SNAPSHOT.into()),
        Some(1..=FORMAT) => {}
        Some(found) => {
            return Err(format!(
                "it has format {found}, and this imd knows formats up to {FORMAT}: use a newer imd"
            ));
        }
    }
    match read_line(line)? {
        Line::Head { newest, .. } => Checked::new(newest),
        _ => Err(NO_SNAPSHOT.into()),
    }
}

fn read_line(line: &str) -> Result<Line<'_>, String> {
    // Where in the line it is, and not what stands there: texts do not belong into an error.
    serde_json::from_str(line).map_err(|error| {
        let column = error.column();
        match error.classify() {
            serde_json::error::Category::Eof => format!("it is cut at column {column}"),
            _ if error.to_string().starts_with(TOO_MANY) => {
                format!("a list has more than {MOST_MEMBERS} items, at column {column}")
            }
            _ => format!("it can't be read, at column {column}"),
        }
    })
}

fn take(checked: &mut Checked, line: Line<'_>) -> Result<(), String> {
    match line {
        Line::User(line) => {
            let user = User {
                name: line.name.into_owned(),
                password_hash: line.password_hash.into_owned(),
            };
            checked.user(line.uid, user)
        }
        Line::Group(line) => checked.group(Group {
            gid: line.gid,
            name: line.name.into_owned(),
            owner: Uid::nonzero(line.owner.0),
            members: line.members.into_owned(),
        }),
        Line::Inbox(line) => checked.inbox(Ends {
            uid: line.uid,
            read: line.read,
            removed: line.removed,
            total: line.total,
        }),
        Line::Message(line) => {
            let kind = line.kind.into();
            let (msg_id, text) = (MsgId(&line.msg_id), &line.text);
            let message = Message::new(kind, line.source, line.group, msg_id, text, line.sent_at);
            checked.message(message, line.receivers.into_owned(), &line.places)
        }
        Line::Head { .. } | Line::End { .. } => Err("this line belongs elsewhere".into()),
    }
}
