//! One fault rule, and the builder with which Rust code creates it.
//!
//! Serves tests in Rust, and `rule_table`, which converts a rule from and to TOML and JSON. A rule may be invalid: it is
//! checked when it is put in force.

use std::time::Duration;

use super::{Action, Direction, Site};
use crate::id::Uid;
use crate::proto::{Cmd, Code};

/// One fault rule: the site, the filters, how often it fires, and the action.
///
/// A filter that is not set matches everything: without a uid every user, without a command every command. The rule fires
/// for every match, unless [`after`](Self::after), [`times`](Self::times), [`probability`](Self::probability) or
/// [`lasting`](Self::lasting) limit it. Whether a rule is valid is checked when it is
/// [injected](super::Faults::inject).
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    pub(super) name: Option<String>,
    pub(super) at: Site,
    pub(super) uid: Option<Uid>,
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
    /// Creates a rule for a site. Its action is [`Action::Drop`] until another one is set.
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

    /// Sets the name in logs and lists. The random choices of the rule depend on its name and on the seed of the stack.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Fault {
        self.name = Some(name.into());
        self
    }

    /// Returns the name, if one was set.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Limits the rule to one user: to their sessions, and to calls of the store on their behalf.
    #[must_use]
    pub fn uid(mut self, uid: impl Into<Uid>) -> Fault {
        self.uid = Some(uid.into());
        self
    }

    /// Limits the rule to the access server with this name.
    #[must_use]
    pub fn access(mut self, name: impl Into<String>) -> Fault {
        self.access = Some(name.into());
        self
    }

    /// Limits the rule to the session with this id.
    #[must_use]
    pub fn session(mut self, id: u64) -> Fault {
        self.session = Some(id);
        self
    }

    /// Limits the rule to frames of this command.
    #[must_use]
    pub fn cmd(mut self, cmd: Cmd) -> Fault {
        self.cmd = Some(cmd);
        self
    }

    /// Limits the rule to frames of this direction.
    #[must_use]
    pub fn direction(mut self, direction: Direction) -> Fault {
        self.direction = Some(direction);
        self
    }

    /// Fires for the `n`th match alone, counted from 1: short for [`after`](Self::after)`(n - 1)` and
    /// [`times`](Self::times)`(1)`. A rule with `n` = 0 is refused when it is injected.
    #[must_use]
    pub fn nth(self, n: u64) -> Fault {
        self.after(n.saturating_sub(1)).times(n.min(1))
    }

    /// Does not fire for the first `n` matches.
    #[must_use]
    pub fn after(mut self, n: u64) -> Fault {
        self.after = n;
        self
    }

    /// Fires at most `n` times.
    #[must_use]
    pub fn times(mut self, n: u64) -> Fault {
        self.times = Some(n);
        self
    }

    /// Fires for each match with this probability: more than 0, at most 1. The seed of the stack determines the choices.
    #[must_use]
    pub fn probability(mut self, chance: f64) -> Fault {
        self.probability = chance;
        self
    }

    /// Limits the rule to this time after it was injected, by `imd`'s clock.
    #[must_use]
    pub fn lasting(mut self, time: Duration) -> Fault {
        self.lasting = Some(time);
        self
    }

    /// Sets the action.
    #[must_use]
    pub fn doing(mut self, action: Action) -> Fault {
        self.action = action;
        self
    }

    /// Sets the action to [`Action::Drop`].
    #[must_use]
    pub fn drop_it(self) -> Fault {
        self.doing(Action::Drop)
    }

    /// Sets the action to [`Action::Delay`] by a fixed time.
    #[must_use]
    pub fn delay(self, by: Duration) -> Fault {
        let jitter = Duration::ZERO;
        self.doing(Action::Delay { by, jitter })
    }

    /// Sets the action to [`Action::Delay`] by a random time from `by` to `by + jitter`.
    #[must_use]
    pub fn jitter(self, by: Duration, jitter: Duration) -> Fault {
        self.doing(Action::Delay { by, jitter })
    }

    /// Sets the action to [`Action::Duplicate`].
    #[must_use]
    pub fn duplicate(self) -> Fault {
        self.doing(Action::Duplicate)
    }

    /// Sets the action to [`Action::Reorder`].
    #[must_use]
    pub fn reorder(self) -> Fault {
        self.doing(Action::Reorder)
    }

    /// Sets the action to [`Action::Error`].
    #[must_use]
    pub fn error(self, code: Code) -> Fault {
        self.doing(Action::Error(code))
    }

    /// Sets the action to [`Action::Reset`].
    #[must_use]
    pub fn reset(self) -> Fault {
        self.doing(Action::Reset)
    }

    /// Sets the action to [`Action::HalfOpen`].
    #[must_use]
    pub fn half_open(self) -> Fault {
        self.doing(Action::HalfOpen)
    }

    /// Sets the action to [`Action::Throttle`].
    #[must_use]
    pub fn throttle(self, bytes_per_second: u64) -> Fault {
        self.doing(Action::Throttle(bytes_per_second))
    }

    /// Sets the action to [`Action::Slice`].
    #[must_use]
    pub fn slice(self, bytes: usize) -> Fault {
        self.doing(Action::Slice(bytes))
    }

    /// Sets the action to [`Action::Truncate`].
    #[must_use]
    pub fn truncate(self) -> Fault {
        self.doing(Action::Truncate)
    }

    /// Sets the action to [`Action::Stale`].
    #[must_use]
    pub fn stale(self) -> Fault {
        self.doing(Action::Stale)
    }

    /// Sets the action to [`Action::Gap`].
    #[must_use]
    pub fn gap(self) -> Fault {
        self.doing(Action::Gap)
    }
}
