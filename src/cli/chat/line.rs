use imd::id::{GroupId, Uid};

/// To whom a message goes.
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

/// What a typed line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    Empty,
    Help,
    Quit,
    /// A message, to the last partner when it names none.
    Say(Option<Partner>, &'a str),
    /// Not understood; what would be.
    Bad(String),
}

/// What `/help` says.
pub const HELP: [&str; 5] = [
    "/to UID TEXT      a message to a user",
    "/group GID TEXT   a message to a group",
    "TEXT              a message to whom you wrote last, else to whom you heard from last",
    "/quit             leave (or Ctrl-D)",
    "What arrives is shown with its time (UTC) and its version in your inbox.",
];

impl<'a> Line<'a> {
    pub fn parse(line: &'a str) -> Line<'a> {
        let line = line.trim();
        let (word, rest) = cut(line);
        match word {
            "" => Line::Empty,
            "/help" => Line::Help,
            "/quit" => Line::Quit,
            "/to" => Line::to(rest, Partner::User, "/to UID TEXT"),
            "/group" => Line::to(rest, Partner::Group, "/group GID TEXT"),
            _ if word.starts_with('/') => Line::Bad(format!(
                "there is no {word}: /help shows what there is. A text may begin with '/' after /to UID"
            )),
            _ => Line::Say(None, line),
        }
    }

    fn to<T: From<i64>>(rest: &'a str, partner: fn(T) -> Partner, usage: &str) -> Line<'a> {
        let (id, text) = cut(rest);
        match id.parse() {
            Ok(id) if id > 0 && !text.is_empty() => Line::Say(Some(partner(T::from(id))), text),
            _ => Line::Bad(format!("write {usage}")),
        }
    }
}

/// The first word, and what follows it.
fn cut(text: &str) -> (&str, &str) {
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
    fn messages_name_a_user_a_group_or_nobody() {
        let say = |partner, text| Line::Say(partner, text);
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
    fn what_is_not_understood_says_what_would_be() {
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
