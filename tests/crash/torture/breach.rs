//! The promises of a store, and the report of a broken one.
//!
//! Serves the [checker](super::checker), which finds most breaches, and the torture of a folder, which finds those of the
//! program itself. `crash/sim` lists for each planted bug the kinds by which it must be found.

use std::fmt;

/// The ways in which a promise is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BreachKind {
    /// An acknowledged message is missing.
    Lost,
    /// A group message is in the inboxes of some members only.
    HalfStored,
    /// A message is stored twice.
    Duplicate,
    /// A version is missing or was given out twice.
    Gap,
    /// A version holds another message than before.
    Moved,
    /// A message that a reader was shown or notified of is gone.
    Vanished,
    /// A message has another text than the one that was sent.
    Altered,
    /// An inbox holds a message that no user has sent.
    NeverSent,
    /// Messages of one sender are out of order.
    OutOfOrder,
    /// A read mark went back.
    ReadMarkBack,
    /// A read mark is ahead of what was read.
    ReadMarkAhead,
    /// A user with unread messages got no notify after the login.
    NotNotified,
    /// A request was refused that should have been accepted.
    Refused,
    /// A frame answers no request, or a request was not answered in time.
    UnexpectedReply,
    /// The program ended by itself.
    ProgramEnded,
    /// The program did not start on the folder that a crash left.
    StartFailed,
    /// `imd store check` finds something wrong in the folder that a crash left.
    Damaged,
}

impl BreachKind {
    /// Returns the promise that is broken, as a sentence.
    pub fn promise(self) -> &'static str {
        match self {
            BreachKind::Lost => "every acknowledged message is stored",
            BreachKind::HalfStored => "a group message is in every member's inbox or in none",
            BreachKind::Duplicate => "a message is stored once, however often it is sent",
            BreachKind::Gap => "versions are 1 to n without gaps, and a page skips nothing",
            BreachKind::Moved => "a message stays under its version",
            BreachKind::Vanished => "a message that a reader was shown is stored",
            BreachKind::Altered => "a message is stored whole or not at all",
            BreachKind::NeverSent => "an inbox holds only messages that were sent",
            BreachKind::OutOfOrder => "the messages of one connection keep their order",
            BreachKind::ReadMarkBack => "a read mark that a commit has followed never goes back",
            BreachKind::ReadMarkAhead => "a read mark is no further than the user has read",
            BreachKind::NotNotified => "a login with unread messages is followed by a notify",
            BreachKind::Refused => "users, groups and tokens stay, and sends are accepted",
            BreachKind::UnexpectedReply => {
                "every request is answered, in order, and nothing else is"
            }
            BreachKind::ProgramEnded => "the program runs until it is killed",
            BreachKind::StartFailed => "a start after a crash succeeds",
            BreachKind::Damaged => "the folder that a crash leaves is undamaged",
        }
    }
}

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    pub kind: BreachKind,
    /// What was found in place of what is promised, for people.
    pub found: String,
}

impl Breach {
    /// Creates the report of a broken promise.
    pub fn new(kind: BreachKind, found: impl Into<String>) -> Self {
        Breach {
            kind,
            found: found.into(),
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let promise = self.kind.promise();
        write!(
            f,
            "{:?}: promised: {promise}; found: {}",
            self.kind, self.found
        )
    }
}
