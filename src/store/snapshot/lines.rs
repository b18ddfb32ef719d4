//! The format of a snapshot's file: one JSON object per line.
//!
//! Serves the module `file`, and the admin API, which sends and receives snapshots in this format. The first line names
//! the version of the format. Each of the following lines is a user, a group, an inbox or a message. The last line
//! contains the number of lines before it, so that a file that was cut off is recognised. The last field of each line
//! is a checksum of the line, so that a line that was altered is recognised; a line that was written by hand may have
//! none.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead, Write};
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::check::Checked;
use super::{InboxSummary, LoadError, Snapshot};
use crate::id::{GroupId, MsgId, Uid, Version};
use crate::store::{Group, Kind, Message, User};
use crate::text::{LineError, LineReader};

/// The version of the format that is written, and the newest that can be read.
const FORMAT: u64 = 1;

/// The length limit of the first line, in bytes.
const LONGEST_HEAD: usize = 64 << 10;

/// The length limit of a line that contains lists, in bytes. It suffices for a message to a group of [`MAX_MEMBERS`].
const LONGEST_LIST: usize = 64 << 20;

/// The length limit of any other line, in bytes.
const LONGEST_LINE: usize = 16 << 20;

/// The limit of the items of a list: the largest number of a group's members that a config allows.
const MAX_MEMBERS: usize = 1 << 20;

/// The error of a file that does not begin with the first line of a snapshot.
const NO_SNAPSHOT: &str = "this is no snapshot of imd";

/// The error of the deserializer for a list with too many items. [`read_line`] recognises it, and replaces it by
/// another text.
const TOO_MANY: &str = "too many items";

/// The text between the other fields of a line and its checksum.
const CHECK: &str = ",\"check\":\"";

/// A line of the file. The name of the variant is the key of the JSON object.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line<'a> {
    /// The first line.
    #[serde(rename = "imd_snapshot")]
    Head {
        /// The version of the format.
        format: u64,
        /// The newest time that the store has seen, in Unix milliseconds.
        newest: i64,
    },
    User(UserLine<'a>),
    Group(GroupLine<'a>),
    Inbox(InboxLine),
    Message(Box<MessageLine<'a>>),
    /// The last line.
    End {
        /// The number of lines before this one.
        lines: usize,
    },
}

/// The line of a user.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserLine<'a> {
    uid: Uid,
    name: Cow<'a, str>,
    password_hash: Cow<'a, str>,
}

/// The line of a group.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupLine<'a> {
    gid: GroupId,
    name: Cow<'a, str>,
    /// The creator of the group, or 0 if that is not known.
    owner: Uid,
    #[serde(deserialize_with = "list")]
    members: Cow<'a, [Uid]>,
}

/// The line of an inbox: see [`InboxSummary`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InboxLine {
    uid: Uid,
    read: Version,
    removed: Version,
    total: Version,
}

/// The line of a message, with the inboxes that hold it: see [`StoredMessage`](super::StoredMessage).
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

/// Deserializes the id of a group. An id of 0 means the same as a missing field.
fn nonzero<'de, D: Deserializer<'de>>(from: D) -> Result<Option<GroupId>, D::Error> {
    i64::deserialize(from).map(GroupId::nonzero)
}

/// The serde form of [`Kind`].
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
    /// Writes the snapshot in the format of a file. The output is confidential: it contains password hashes and
    /// messages.
    ///
    /// # Errors
    ///
    /// The error of `out`. A part of the snapshot may have been written then; a reader recognises that it is
    /// incomplete.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut lines = 0;
        self.lines(|line| {
            lines += 1;
            write_line(out, line)
        })?;
        write_line(out, &Line::End { lines })
    }

    /// Calls `each` with every line but the last one, and stops at the first error.
    fn lines(&self, mut each: impl FnMut(&Line<'_>) -> io::Result<()>) -> io::Result<()> {
        each(&Line::Head {
            format: FORMAT,
            newest: self.latest_time_ms,
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
        for &InboxSummary {
            uid,
            read,
            trimmed_through: removed,
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

    /// Reads a snapshot from the contents of a file, and checks that it is complete and consistent. Lines may end with
    /// CRLF, and a byte order mark may precede the first line.
    ///
    /// # Errors
    ///
    /// [`LoadError`] with the line of the first mistake, when the file is damaged, was cut off, was written by a newer
    /// `imd`, or is not a snapshot.
    pub fn read(file: &[u8]) -> Result<Snapshot, LoadError> {
        Snapshot::read_from(file)
    }

    /// Reads a snapshot from a file, and checks that it is complete and consistent. Besides the snapshot, only one line
    /// of the file is in memory at a time.
    ///
    /// # Errors
    ///
    /// [`LoadError`] with the line of the first mistake, in the cases of [`read`](Self::read), and when `file` can't be
    /// read, or when a line is too long or is not text.
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

/// Returns the length limit of a line, given its beginning and the number of lines before it.
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

/// Deserializes a list of [`MAX_MEMBERS`] items at most. A longer one is refused before the rest of it is read.
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
                if items.len() == MAX_MEMBERS {
                    return Err(A::Error::custom(TOO_MANY));
                }
                items.push(item);
            }
            Ok(items)
        }
    }

    from.deserialize_seq(Items(PhantomData)).map(Cow::Owned)
}

/// Writes a line with its checksum.
fn write_line(out: &mut impl Write, line: &Line<'_>) -> io::Result<()> {
    let mut text = serde_json::to_string(line)?;
    // The closing brace is written after the checksum.
    text.pop();
    let check = check(text.as_bytes());
    writeln!(out, "{text}{CHECK}{check}\"}}")
}

/// Returns the checksum of the text before it: half of the XXH3 hash, as 8 hexadecimal digits.
fn check(text: &[u8]) -> String {
    let [a, b, c, d, ..] = xxh3_64(text).to_be_bytes();
    base16ct::lower::encode_string(&[a, b, c, d])
}

/// Verifies and removes the checksum of a line. A line without one is returned as it is.
///
/// # Errors
///
/// A message for the user, when the checksum is not that of the line.
fn unchecked(line: &str) -> Result<Cow<'_, str>, String> {
    // The separator can't occur within a text of the line, where each quote has a backslash before it.
    let Some((text, rest)) = line.rsplit_once(CHECK) else {
        return Ok(line.into());
    };
    if rest.strip_suffix("\"}") != Some(&check(text.as_bytes())) {
        return Err("it is damaged: its check does not fit it (a line that is changed by hand goes without)".into());
    }
    Ok(format!("{text}}}").into())
}

/// Reads the first line, and begins a snapshot.
///
/// # Errors
///
/// A message for the user, when the line is not that of a snapshot, or when its format is newer than [`FORMAT`].
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

/// Parses a line whose checksum has been removed.
///
/// # Errors
///
/// A message for the user that names the column. It does not quote the line.
fn read_line(line: &str) -> Result<Line<'_>, String> {
    // serde_json would quote the line, but password hashes and messages must not appear in an error.
    serde_json::from_str(line).map_err(|error| {
        let column = error.column();
        match error.classify() {
            serde_json::error::Category::Eof => format!("it is cut at column {column}"),
            _ if error.to_string().starts_with(TOO_MANY) => {
                format!("a list has more than {MAX_MEMBERS} items, at column {column}")
            }
            _ => format!("it can't be read, at column {column}"),
        }
    })
}

/// Adds the item of a line to a snapshot.
///
/// # Errors
///
/// What is wrong with the item.
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
        Line::Inbox(line) => checked.inbox(InboxSummary {
            uid: line.uid,
            read: line.read,
            trimmed_through: line.removed,
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
