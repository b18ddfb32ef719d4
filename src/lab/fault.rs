use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::form::Form;
use super::{Action, Direction, Site};
use crate::proto::{Cmd, Code};

/// The longest time that a fault may take or last.
pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

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

/// Why a rule can't be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FaultError {
    /// There is no such site.
    #[error("{0:?} is no site: {all}", all = names(&Site::ALL.map(Site::name)))]
    NoSuchSite(String),
    /// There is no such command.
    #[error("{0} is no command: {all}", all = names(&Cmd::ALL.map(Cmd::name)))]
    NoSuchCmd(String),
    /// There is no such error code.
    #[error("{0} is no error code of the contract")]
    NoSuchCode(u32),
    /// It says nothing of what is to be done, or too much.
    #[error("a fault does one thing: {given}", given = if .0.is_empty() { "say which".into() } else { names(.0) })]
    NotOneAction(Vec<&'static str>),
    /// That does not happen there.
    #[error("{action} can't be at {at}: {all}", all = names(.at.actions()))]
    NotThere {
        /// The site.
        at: Site,
        /// The action.
        action: &'static str,
    },
    /// A chance is between 0 and 1.
    #[error("a probability of {0} is not between 0 and 1")]
    NoChance(f64),
    /// A number that has to be more than 0.
    #[error("{0} must be more than 0")]
    Zero(&'static str),
    /// What a rule is told that its action or its site has nothing to do with.
    #[error("{key} means nothing with {with}")]
    Pointless {
        /// The key.
        key: &'static str,
        /// What it stands beside.
        with: &'static str,
    },
    /// A time that is no test's.
    #[error("{0} is longer than a year")]
    TooLong(&'static str),
    /// Its name is empty, or none that can stand in the path of a request.
    #[error("a fault's name must not be empty, \".\" or \"..\"")]
    NoName,
    /// The name stands for another rule.
    #[error("there is a fault of the name {0:?} already")]
    NameTaken(String),
}

fn names(names: &[&str]) -> String {
    names.join(", ")
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

    /// Only the `n`th that matches, from 1.
    #[must_use]
    pub fn nth(self, n: u64) -> Fault {
        self.after(n.saturating_sub(1)).times(1)
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

    /// Whether it can be.
    ///
    /// # Errors
    ///
    /// What is wrong with it first.
    pub fn check(&self) -> Result<(), FaultError> {
        let (at, action) = (self.at, self.action.name());
        if !at.allows(&self.action) {
            return Err(FaultError::NotThere { at, action });
        }
        if !(0.0..=1.0).contains(&self.probability) {
            return Err(FaultError::NoChance(self.probability));
        }
        if matches!(self.name.as_deref(), Some("" | "." | "..")) {
            return Err(FaultError::NoName);
        }
        let (by, jitter) = match self.action {
            Action::Delay { by, jitter } => (by, jitter),
            _ => (Duration::ZERO, Duration::ZERO),
        };
        let times = [
            ("delay", by),
            ("jitter", jitter),
            ("for", self.lasting.unwrap_or_default()),
        ];
        if let Some((key, _)) = times.into_iter().find(|(_, time)| *time > LONGEST) {
            return Err(FaultError::TooLong(key));
        }
        match self.action {
            Action::Delay { by, jitter } if by.is_zero() && jitter.is_zero() => {
                return Err(FaultError::Zero("delay"));
            }
            Action::Throttle(0) => return Err(FaultError::Zero("throttle")),
            Action::Slice(0) => return Err(FaultError::Zero("slice")),
            _ => {}
        }
        if self.times == Some(0) {
            return Err(FaultError::Zero("times"));
        }
        let with = at.name();
        if self.cmd.is_some() && !at.has_frames() {
            return Err(FaultError::Pointless { key: "cmd", with });
        }
        if self.session.is_some() && !at.has_frames() {
            let key = "session";
            return Err(FaultError::Pointless { key, with });
        }
        if self.direction.is_some() && self.direction != at.direction() {
            return Err(FaultError::Pointless {
                key: "direction",
                with,
            });
        }
        if self.uid.is_some() && !at.has_user() {
            return Err(FaultError::Pointless { key: "uid", with });
        }
        if self.access.is_some() && !at.has_access() {
            return Err(FaultError::Pointless {
                key: "access",
                with,
            });
        }
        Ok(())
    }
}
