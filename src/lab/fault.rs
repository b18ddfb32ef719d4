//! One rule, as it is said in Rust.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::form::Form;
use super::{Action, Direction, Site};
use crate::proto::{Cmd, Code};

/// One rule: where something fails, for whom, when, and how.
///
/// Whoever is not named is meant too: without a uid every user, without a command every command. Of what matches, the
/// rule takes all, unless [`after`](Self::after), [`times`](Self::times), [`probability`](Self::probability) or
/// [`lasting`](Self::lasting) say otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Form", into = "Form")]
pub struct Fault {
    pub(super) name: Option<String>,
    pub(super) at: Site,
    pub(super) uid: Option<i64>,
    pub(super) access: Option<String>,
    pub(super) session: Option<u64>,
    pub(super) cmd: Option<Cmd>,
    pub(super) direction: Option<Direction>,
    pub(super) after: u64,
    pub(super) times: Option<u64>,
    pub(super) probability: f64,
    pub(super) lasting: Option<Duration>,
    pub(super) action: Action,
}

impl Fault {
    /// A rule for that site, which drops: what else it may do is said next.
    pub fn at(at: Site) -> Fault {
        Fault {
            name: None,
            at,
            uid: None,
            access: None,
            session: None,
            cmd: None,
            direction: None,
            after: 0,
            times: None,
            probability: 1.0,
            lasting: None,
            action: Action::Drop,
        }
    }

    /// What it is called in logs and lists, and what its random choices are made from beside the seed.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Fault {
        self.name = Some(name.into());
        self
    }

    /// What it was called, if it was.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Only for this user: whose session it is, or whose store is asked.
    #[must_use]
    pub fn uid(mut self, uid: i64) -> Fault {
        self.uid = Some(uid);
        self
    }

    /// Only at the access server of this name.
    #[must_use]
    pub fn access(mut self, name: impl Into<String>) -> Fault {
        self.access = Some(name.into());
        self
    }

    /// Only on this session.
    #[must_use]
    pub fn session(mut self, id: u64) -> Fault {
        self.session = Some(id);
        self
    }

    /// Only frames of this command.
    #[must_use]
    pub fn cmd(mut self, cmd: Cmd) -> Fault {
        self.cmd = Some(cmd);
        self
    }

    /// Only what goes this way.
    #[must_use]
    pub fn direction(mut self, direction: Direction) -> Fault {
        self.direction = Some(direction);
        self
    }

    /// Only the `n`th that matches, from 1: the same as to say [`after`](Self::after) `n - 1` and [`times`](Self::times) 1.
    /// A 0 is refused where the rule is put in force.
    #[must_use]
    pub fn nth(self, n: u64) -> Fault {
        self.after(n.saturating_sub(1)).times(n.min(1))
    }

    /// Not the first `n` that match.
    #[must_use]
    pub fn after(mut self, n: u64) -> Fault {
        self.after = n;
        self
    }

    /// At most `n` times.
    #[must_use]
    pub fn times(mut self, n: u64) -> Fault {
        self.times = Some(n);
        self
    }

    /// By chance, 0 to 1, which the seed decides.
    #[must_use]
    pub fn probability(mut self, chance: f64) -> Fault {
        self.probability = chance;
        self
    }

    /// Only for so long after it was injected, by `imd`'s clock.
    #[must_use]
    pub fn lasting(mut self, time: Duration) -> Fault {
        self.lasting = Some(time);
        self
    }

    /// Does this.
    #[must_use]
    pub fn doing(mut self, action: Action) -> Fault {
        self.action = action;
        self
    }

    /// [`Action::Drop`]
    #[must_use]
    pub fn drop_it(self) -> Fault {
        self.doing(Action::Drop)
    }

    /// [`Action::Delay`], always as long.
    #[must_use]
    pub fn delay(self, by: Duration) -> Fault {
        let jitter = Duration::ZERO;
        self.doing(Action::Delay { by, jitter })
    }

    /// [`Action::Delay`], of `by` to `by + jitter`.
    #[must_use]
    pub fn jitter(self, by: Duration, jitter: Duration) -> Fault {
        self.doing(Action::Delay { by, jitter })
    }

    /// [`Action::Duplicate`]
    #[must_use]
    pub fn duplicate(self) -> Fault {
        self.doing(Action::Duplicate)
    }

    /// [`Action::Reorder`]
    #[must_use]
    pub fn reorder(self) -> Fault {
        self.doing(Action::Reorder)
    }

    /// [`Action::Error`]
    #[must_use]
    pub fn error(self, code: Code) -> Fault {
        self.doing(Action::Error(code))
    }

    /// [`Action::Reset`]
    #[must_use]
    pub fn reset(self) -> Fault {
        self.doing(Action::Reset)
    }

    /// [`Action::HalfOpen`]
    #[must_use]
    pub fn half_open(self) -> Fault {
        self.doing(Action::HalfOpen)
    }

    /// [`Action::Throttle`]
    #[must_use]
    pub fn throttle(self, bytes_per_second: u64) -> Fault {
        self.doing(Action::Throttle(bytes_per_second))
    }

    /// [`Action::Slice`]
    #[must_use]
    pub fn slice(self, bytes: usize) -> Fault {
        self.doing(Action::Slice(bytes))
    }

    /// [`Action::Truncate`]
    #[must_use]
    pub fn truncate(self) -> Fault {
        self.doing(Action::Truncate)
    }

    /// [`Action::Stale`]
    #[must_use]
    pub fn stale(self) -> Fault {
        self.doing(Action::Stale)
    }

    /// [`Action::Gap`]
    #[must_use]
    pub fn gap(self) -> Fault {
        self.doing(Action::Gap)
    }
}
