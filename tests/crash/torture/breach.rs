//! What a store that breaks its promises is charged with.

use std::fmt;

/// A promise, by what breaks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Charge {
    /// An acknowledged message is not there.
    Lost,
    /// A group message is with some of the members.
    HalfStored,
    /// A message is there twice.
    Duplicate,
    /// A version is missing, or stands twice.
    Gap,
    /// A version holds another message than before.
    Moved,
    /// What a reader was shown, or told of, is not there any more.
    Vanished,
    /// A message is there, but not whole.
    Altered,
    /// There is a message that nobody sent.
    Unsent,
    /// Messages of one sender changed places.
    OutOfOrder,
    /// A read mark went back.
    MarkBack,
    /// A read mark is further than anybody has read.
    MarkAhead,
    /// There is something unread, and the login was not told.
    NotNotified,
    /// A request was refused that should not have been.
    Refused,
    /// A frame came that answers nothing.
    Strange,
    /// The program ended by itself.
    Ended,
    /// It did not start on what a crash left.
    NotStarted,
    /// The program's own check finds something wrong in what a crash left.
    Damaged,
}

impl Charge {
    /// What was promised.
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
