//! Identifiers: users, groups, versions of an inbox, and the ids that senders give their messages.
//!
//! Each is a type of its own, so that a user can't be taken for a group and a version for a user. They cost what the
//! number or the text behind them costs: all of them are [`Copy`], and JSON has them as the plain number.
//!
//! Every other module may use this one. The messages of the wire (`proto`) and the records of the durable store have
//! plain numbers, in which 0 stands for an id that is absent; [`Uid::nonzero`] and [`Uid::or_zero`] are the boundary.

use std::fmt;
use std::num::{ParseIntError, TryFromIntError};
use std::ops::{Add, AddAssign, Sub};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! numeric_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl $name {
            /// The greatest value.
            pub const MAX: $name = $name(i64::MAX);

            /// Returns the id that a field of the wire or of a record holds; none if the field is 0.
            pub const fn nonzero(field: i64) -> Option<Self> {
                if field == 0 { None } else { Some($name(field)) }
            }

            /// Returns the number for a field of the wire or of a record, in which 0 stands for no id.
            pub fn or_zero(id: Option<Self>) -> i64 {
                id.unwrap_or_default().0
            }

            /// Returns the id that is `count` above this one; none if there is no such number.
            pub fn checked_add(self, count: i64) -> Option<Self> {
                self.0.checked_add(count).map($name)
            }

            /// Returns the id that is `count` above this one; [`MAX`](Self::MAX) if there is no such number.
            #[must_use]
            pub const fn saturating_add(self, count: i64) -> Self {
                $name(self.0.saturating_add(count))
            }
        }

        impl From<i64> for $name {
            fn from(number: i64) -> Self {
                $name(number)
            }
        }

        impl From<$name> for i64 {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl TryFrom<i128> for $name {
            type Error = TryFromIntError;

            fn try_from(number: i128) -> Result<Self, TryFromIntError> {
                i64::try_from(number).map($name)
            }
        }

        impl PartialEq<i64> for $name {
            fn eq(&self, number: &i64) -> bool {
                self.0 == *number
            }
        }

        impl FromStr for $name {
            type Err = ParseIntError;

            fn from_str(text: &str) -> Result<Self, ParseIntError> {
                text.parse().map($name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        /// Shows the number alone, since the field or variable in front of it says what it counts.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

numeric_id! {
    /// Identifies a user.
    ///
    /// The person who runs the stack chooses these ids. Users and the targets of messages are
    /// [positive](Uid::is_positive); other numbers come from clients only, and are refused.
    Uid
}

numeric_id! {
    /// Identifies a group.
    ///
    /// It is a snowflake if the group was created by a request, or else a number of the config or of a snapshot. It is
    /// positive, and never used again.
    GroupId
}

numeric_id! {
    /// A position in an inbox.
    ///
    /// The first entry of an inbox has version 1, and each following one the next number, in the order of storing. 0 is
    /// the position before the first entry: the newest version of an empty inbox, and the read mark of a user who has
    /// read nothing.
    Version
}

impl Uid {
    /// Tells whether this can be the id of a user.
    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }
}

impl GroupId {
    /// Tells whether this can be the id of a group.
    pub const fn is_positive(self) -> bool {
        self.0 > 0
    }
}

impl Version {
    /// The position before the first entry.
    pub const START: Version = Version(0);

    /// Returns the version of the entry that follows.
    #[must_use]
    pub const fn next(self) -> Version {
        Version(self.0 + 1)
    }

    /// Returns the versions after this one, in order and without an end.
    pub fn following(self) -> impl Iterator<Item = Version> {
        (self.0 + 1..).map(Version)
    }

    /// Returns the position that is `entries` before this one, or the lowest one if there is no such number.
    #[must_use]
    pub const fn saturating_sub(self, entries: i64) -> Version {
        Version(self.0.saturating_sub(entries))
    }
}

impl Add<i64> for Version {
    type Output = Version;

    fn add(self, entries: i64) -> Version {
        Version(self.0 + entries)
    }
}

impl AddAssign<i64> for Version {
    fn add_assign(&mut self, entries: i64) {
        self.0 += entries;
    }
}

impl Sub<i64> for Version {
    type Output = Version;

    fn sub(self, entries: i64) -> Version {
        Version(self.0 - entries)
    }
}

/// Returns how many entries lie between two positions.
impl Sub for Version {
    type Output = i64;

    fn sub(self, other: Version) -> i64 {
        self.0 - other.0
    }
}

/// The id of a message: given by its sender, or by the server to a message that came without one. Only in a request may it
/// be empty.
///
/// Together with the sender and the receiver or group it tells whether a message was stored before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MsgId<'a>(pub &'a str);

impl<'a> MsgId<'a> {
    /// Returns the text of the id.
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

impl<'a> From<&'a str> for MsgId<'a> {
    fn from(text: &'a str) -> Self {
        MsgId(text)
    }
}

impl<'a> From<&'a String> for MsgId<'a> {
    fn from(text: &'a String) -> Self {
        MsgId(text)
    }
}

impl PartialEq<str> for MsgId<'_> {
    fn eq(&self, text: &str) -> bool {
        self.0 == text
    }
}

impl PartialEq<&str> for MsgId<'_> {
    fn eq(&self, text: &&str) -> bool {
        self.0 == *text
    }
}

impl fmt::Display for MsgId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Shows the text alone, in quotes.
impl fmt::Debug for MsgId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_and_read_as_its_number() {
        assert_eq!("-7".parse(), Ok(Uid(-7)));
        assert_eq!(format!("{} {:?}", GroupId(7), Version(8)), "7 8");
        assert_eq!(
            serde_json::to_string(&Uid::MAX).unwrap(),
            "9223372036854775807"
        );
        assert_eq!(serde_json::from_str::<Vec<Uid>>("[1,2]").unwrap(), [1, 2]);
    }

    #[test]
    fn a_field_that_holds_zero_holds_no_id() {
        assert_eq!(Uid::nonzero(0), None);
        assert_eq!(Uid::nonzero(-1), Some(Uid(-1)));
        assert_eq!(Uid::or_zero(None), 0);
        assert_eq!(Uid::or_zero(Some(Uid(7))), 7);
    }
}
