//! Formats messages as lines of a chat.
//!
//! Serves [`Chat`](super::Chat). Lines are not escaped here: the screen does that.

use imd::client::{Message, MessageKind};
use imd::id::{GroupId, Uid};

use super::line::Partner;

/// Number of seconds in a day, without leap seconds.
const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

/// Formats a message as a line: time, version, sender, group and text. `me` is the user who reads it.
pub fn show(message: &Message, me: Uid) -> String {
    let head = match message.version {
        0 => time(message.sent_at),
        version => format!("{} v{version}", time(message.sent_at)),
    };
    let who = if me == message.source {
        "you".to_owned()
    } else {
        message.source.to_string()
    };
    let (text, id) = (&message.text, &message.msg_id);
    match &message.kind {
        MessageKind::Ack => format!("[{head}] {who} accepted {id}"),
        MessageKind::Group => format!("[{head}] {who} in group {}: {text}", message.group),
        MessageKind::P2p => format!("[{head}] {who}: {text}"),
        MessageKind::Other(kind) => format!("[{head}] {who} ({kind}): {text}"),
    }
}

/// Returns the partner to whom a reply to the message would go, if it is a message of somebody else.
pub fn partner(message: &Message, me: Uid) -> Option<Partner> {
    match message.kind {
        MessageKind::Group => Some(Partner::Group(GroupId(message.group))),
        MessageKind::P2p if me != message.source => Some(Partner::User(Uid(message.source))),
        _ => None,
    }
}

/// Formats a time in milliseconds since the epoch as the time of day in UTC.
fn time(unix_ms: i64) -> String {
    if unix_ms <= 0 {
        return "--:--:--".into();
    }
    let of_day = unix_ms / 1000 % SECONDS_PER_DAY;
    let (hours, minutes, seconds) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{hours:02}:{minutes:02}:{seconds:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use imd::id::Uid;

    fn message(kind: MessageKind, group: i64) -> Message {
        Message {
            version: 7,
            source: 654,
            group,
            kind,
            msg_id: "id".into(),
            text: "hello".into(),
            sent_at: 1_792_629_296_789,
        }
    }

    #[test]
    fn a_line_has_the_time_the_version_the_sender_and_the_group() {
        let p2p = message(MessageKind::P2p, 0);
        assert_eq!(show(&p2p, Uid(321)), "[00:34:56Z v7] 654: hello");
        assert_eq!(show(&p2p, Uid(654)), "[00:34:56Z v7] you: hello");
        let group = message(MessageKind::Group, 99);
        assert_eq!(
            show(&group, Uid(1)),
            "[00:34:56Z v7] 654 in group 99: hello"
        );
        let ack = message(MessageKind::Ack, 0);
        assert_eq!(show(&ack, Uid(1)), "[00:34:56Z v7] 654 accepted id");
    }

    #[test]
    fn a_version_or_time_that_the_server_does_not_send_is_left_out() {
        let bare = Message {
            version: 0,
            sent_at: 0,
            ..message(MessageKind::P2p, 0)
        };
        assert_eq!(show(&bare, Uid(1)), "[--:--:--] 654: hello");
    }
}
