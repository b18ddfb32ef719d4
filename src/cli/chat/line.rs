//! Parses the lines that are typed in a chat: commands and messages.
//!
//! Serves [`Chat`](super::Chat). Parsing knows nothing of the state of the chat, such as the last partner.

use imd::id::{GroupId, Uid};

/// The receiver of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partner {
    User(Uid),
    Group(GroupId),
}

impl std::fmt::Display for Partner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Partner::User(uid) => write!(f, "{uid}"),
            Partner::Group(gid) => write!(f, "group {gid}"),
        }
    }
}

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    Empty,
    Help,
    Quit,
    /// A message, to the given partner or, without one, to the last one.
    Message(Option<Partner>, &'a str),
    /// A line that is not understood, with a text that says what to write instead.
    Bad(String),
}

/// The lines that `/help` prints.
pub const HELP: [&str; 5] = [
    "/to UID TEXT      a message to a user",
    "/group GID TEXT   a message to a group",
    "TEXT              a message to whom you wrote last, else to whom you heard from last",
    "/quit             leave (or Ctrl-D)",
    "What arrives is shown with its time (UTC) and its version in your inbox.",
];

impl<'a> Line<'a> {
    /// Parses a line.
    pub fn parse(line: &'a str) -> Line<'a> {
        let line = line.trim();
        let (word, rest) = split_word(line);
        match word {
            "" => Line::Empty,
            "/help" => Line::Help,
            "/quit" => Line::Quit,
            "/to" => Line::to(rest, Partner::User, "/to UID TEXT"),
            "/group" => Line::to(rest, Partner::Group, "/group GID TEXT"),
            _ if word.starts_with('/') => Line::Bad(format!(
                "there is no {word}: /help shows what there is. A text may begin with '/' after /to UID"
            )),
            _ => Line::Message(None, line),
        }
    }

    /// Parses the rest of a command that names a partner. `usage` is the advice when that is not possible.
    fn to<T: From<i64>>(rest: &'a str, partner: fn(T) -> Partner, usage: &str) -> Line<'a> {
        let (id, text) = split_word(rest);
        match id.parse() {
            Ok(id) if id > 0 && !text.is_empty() => Line::Message(Some(partner(T::from(id))), text),
            _ => Line::Bad(format!("write {usage}")),
        }
    }
}

/// Splits a text into its first word and what follows it.
fn split_word(text: &str) -> (&str, &str) {
    match text.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imd::id::{GroupId, Uid};

    #[test]
    fn a_message_names_a_user_a_group_or_nobody() {
        let say = |partner, text| Line::Message(partner, text);
        assert_eq!(
            Line::parse("/to 654 hello  you"),
            say(Some(Partner::User(Uid(654))), "hello  you")
        );
        assert_eq!(
            Line::parse(" /group\t9 /x "),
            say(Some(Partner::Group(GroupId(9))), "/x")
        );
        assert_eq!(Line::parse("hello you\r"), say(None, "hello you"));
    }

    #[test]
    fn a_line_that_is_not_understood_is_refused() {
        for bad in [
            "/to",
            "/to 654",
            "/to x hello",
            "/to -1 x",
            "/group 0 x",
            "/foo",
            "/",
        ] {
            assert!(matches!(Line::parse(bad), Line::Bad(_)), "{bad}");
        }
        assert_eq!(Line::parse("  "), Line::Empty);
        assert_eq!(Line::parse("/quit"), Line::Quit);
        assert_eq!(Line::parse("/help"), Line::Help);
    }
}
