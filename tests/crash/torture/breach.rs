//! The promises of a store, and the report of a broken one.

use std::fmt;

/// A promise, by what breaks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Charge {
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
    /// Nobody sent this message.
    Unsent,
    /// Messages of one sender are out of order.
    OutOfOrder,
    /// A read mark went back.
    MarkBack,
    /// A read mark is ahead of what was read.
    MarkAhead,
    /// A user with unread messages got no notify after the login.
    NotNotified,
    /// A request was refused that should not have been.
    Refused,
    /// A frame came that is no reply to any request.
    Strange,
    /// The program ended by itself.
    Ended,
    /// The program did not start on the folder that a crash left.
    NotStarted,
    /// The program's own check finds something wrong in what a crash left.
    Damaged,
}

impl Charge {
    /// Returns the promise, as a sentence.
    pub fn promise(self) -> &'static str {
        match self {
            Charge::Lost => "every acknowledged message is there",
            Charge::HalfStored => "a group message is in every member's inbox or in none",
            Charge::Duplicate => "a message is stored once, however often it is sent",
            Charge::Gap => "versions are 1 to n without gaps, and a page skips nothing",
            Charge::Moved => "a message stays under its version",
            Charge::Vanished => "what a reader was shown is stored",
            Charge::Altered => "a message is there whole or not at all",
            Charge::Unsent => "only what was sent is there",
            Charge::OutOfOrder => "the messages of one connection keep their order",
            Charge::MarkBack => "read marks never go back",
            Charge::MarkAhead => "a read mark is what the user has read",
            Charge::NotNotified => "a login is told when there is something unread",
            Charge::Refused => "users, groups and tokens stay, and sends are accepted",
            Charge::Strange => "every request is answered, in order, and nothing else is",
            Charge::Ended => "the program runs until it is killed",
            Charge::NotStarted => "a start after a crash succeeds",
            Charge::Damaged => "what a crash leaves is in order",
        }
    }
}

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    pub charge: Charge,
    /// What was found instead.
    pub found: String,
}

impl Breach {
    pub fn new(charge: Charge, found: impl Into<String>) -> Self {
        Breach {
            charge,
            found: found.into(),
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let promise = self.charge.promise();
        write!(
            f,
            "{:?}: promised: {promise}; found: {}",
            self.charge, self.found
        )
    }
}
