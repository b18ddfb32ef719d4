//! Validation of a rule: the bounds of its numbers, and whether it could ever fire.
//!
//! Serves `faults`, which puts no rule in force that was not checked here, and the validation of a config. Rules from Rust,
//! imd.toml, the admin API and the command line are all checked in the same way.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Action, Direction, Fault, Site};
use crate::codec::MAX_FRAME;
use crate::proto::{Cmd, Code};

/// Upper bound of a delay, of its jitter, and of the time that a rule is in force.
pub(crate) const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// Upper bound of the counts and the session id of a rule. Every JSON reader represents numbers up to it exactly.
pub(super) const MAX_NUMBER: u64 = (1 << 53) - 1;

/// Longest name of a rule, in bytes.
const MAX_NAME: usize = 128;

/// Largest piece that still splits the longest frame: a frame is its message plus 2 bytes of length.
const MAX_SLICE: u64 = MAX_FRAME as u64 + 1;

/// Largest piece that still splits the longest notify: 2 bytes of length, 4 each for the command and `ok`, and at most 10
/// for each of its two numbers.
const MAX_SLICE_OF_NOTIFY: u64 = 29;

/// Why a rule is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FaultError {
    /// No site has this name.
    #[error("{0:?} is no site: {all}", all = names(&Site::ALL.map(Site::name)))]
    NoSuchSite(String),
    /// The contract has no command of this name or number.
    #[error("{0} is no command: {all}", all = names(&Cmd::ALL.map(Cmd::name)))]
    NoSuchCmd(String),
    /// The rule names no action, or several: their names.
    #[error("a fault does one thing: {given}", given = if .0.is_empty() { "say which".into() } else { names(.0) })]
    NotOneAction(Vec<&'static str>),
    /// The site does not allow the action.
    #[error("{action} can't be at {at}: {all}", all = names(.at.actions()))]
    ActionNotAllowed {
        /// The site of the rule.
        at: Site,
        /// Name of the action.
        action: &'static str,
    },
    /// A number, a time or a code is outside its bounds.
    #[error("{key}: {value} must be {bounds}")]
    OutOfBounds {
        /// The key of the rule.
        key: &'static str,
        /// The given value.
        value: String,
        /// The allowed values, as text for people.
        bounds: String,
    },
    /// The key has no meaning beside the action or another key of the rule.
    #[error("{key} means nothing with {with}")]
    MeaninglessKey {
        /// The key that has no meaning.
        key: &'static str,
        /// The action or key that it was combined with.
        with: &'static str,
    },
    /// The rule filters by a key that the site does not have, so that it could never fire.
    #[error("{key} means nothing with {at}: {fits}", fits = fitting(.at.filters()))]
    NoSuchFilter {
        /// The site of the rule.
        at: Site,
        /// The filter key.
        key: &'static str,
    },
    /// The rule filters by a value that never occurs at the site, so that it could never fire.
    #[error("{key}: {value} never passes {at}: {fits} does")]
    NeverPasses {
        /// The site of the rule.
        at: Site,
        /// The filter key.
        key: &'static str,
        /// The given value.
        value: &'static str,
        /// The values that do occur there, as text for people.
        fits: String,
    },
    /// The rule is limited to an access server that does not exist, so that it could never fire.
    #[error("access: there is no access server {name:?}: {known}", known = known(.name, .servers))]
    NoSuchServer {
        /// The given name.
        name: String,
        /// The names of all access servers.
        servers: Vec<String>,
    },
    /// The name can't be part of a request path or of a log line.
    #[error(
        "name: a fault's name must not be empty, \".\" or \"..\", has no control characters, and at most {MAX_NAME} bytes"
    )]
    BadName,
    /// Another rule in force has this name.
    #[error("there is a fault of the name {0:?} already")]
    NameTaken(String),
}

/// Joins names for a message to people.
pub(super) fn names(names: &[&str]) -> String {
    names.join(", ")
}

/// Returns the part of a message that lists the filter keys of a site.
fn fitting(filters: &[&str]) -> String {
    match filters {
        [] => "every one that passes there is meant".to_owned(),
        filters => format!("only {} narrows it down there", filters.join(", ")),
    }
}

/// Returns the part of a message that lists the access servers, with a suggestion if one of them is similar to `name`.
fn known(name: &str, servers: &[String]) -> String {
    let alike = servers.iter().map(|server| {
        let likeness = strsim::jaro_winkler(name, server);
        (likeness, server)
    });
    let nearest = alike.max_by(|one, other| one.0.total_cmp(&other.0));
    let similar = nearest.filter(|(likeness, _)| *likeness > 0.8);
    let suggestion = similar.map_or(String::new(), |(_, server)| {
        format!(" (did you mean {server:?}?)")
    });
    format!("there are {}{suggestion}", servers.join(", "))
}

impl FaultError {
    /// Creates [`FaultError::OutOfBounds`].
    pub(super) fn out_of_bounds(
        key: &'static str,
        value: impl Display,
        bounds: impl Display,
    ) -> Self {
        FaultError::OutOfBounds {
            key,
            value: value.to_string(),
            bounds: bounds.to_string(),
        }
    }
}

/// Returns the bounds of a whole number as text for people.
pub(super) fn whole_number(bounds: &RangeInclusive<u64>) -> String {
    format!("a whole number from {} to {}", bounds.start(), bounds.end())
}

impl Fault {
    /// Checks everything about the rule but whether its access server exists, since the config is read before there are any.
    ///
    /// # Errors
    ///
    /// [`FaultError`] for the first thing that is wrong.
    pub fn check(&self) -> Result<(), FaultError> {
        self.check_name()?;
        if !self.at.allows(&self.action) {
            let (at, action) = (self.at, self.action.name());
            return Err(FaultError::ActionNotAllowed { at, action });
        }
        self.check_numbers()?;
        self.check_action()?;
        self.check_filters()?;
        self.check_cmd()
    }

    /// Checks that the rule's access server, if it names one, is one of `servers`.
    ///
    /// # Errors
    ///
    /// [`FaultError::NoSuchServer`], when the rule names another server.
    pub(crate) fn check_access(&self, servers: &[String]) -> Result<(), FaultError> {
        match &self.access {
            Some(name) if !servers.contains(name) => Err(FaultError::NoSuchServer {
                name: name.clone(),
                servers: servers.to_vec(),
            }),
            _ => Ok(()),
        }
    }

    fn check_name(&self) -> Result<(), FaultError> {
        let Some(name) = self.name.as_deref() else {
            return Ok(());
        };
        let is_bad = matches!(name, "" | "." | "..")
            || name.len() > MAX_NAME
            || name.chars().any(char::is_control);
        if is_bad {
            return Err(FaultError::BadName);
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), FaultError> {
        // Negated as a whole, so that it is true for NaN too.
        if !(self.probability > 0.0 && self.probability <= 1.0) {
            let bounds = "more than 0 and at most 1";
            return Err(FaultError::out_of_bounds(
                "probability",
                self.probability,
                bounds,
            ));
        }
        let max_uid = i64::MAX.unsigned_abs();
        if let Some(uid) = self.uid.filter(|uid| !uid.is_positive()) {
            let bounds = whole_number(&(1..=max_uid));
            return Err(FaultError::out_of_bounds("uid", uid, bounds));
        }
        let counts = [
            ("session", self.session, 1),
            ("times", self.times, 1),
            ("after", Some(self.after), 0),
        ];
        for (key, value, min) in counts {
            if let Some(value) = value {
                within(key, value, min..=MAX_NUMBER)?;
            }
        }
        match self.lasting {
            Some(time) => some_time("for", time),
            None => Ok(()),
        }
    }

    fn check_action(&self) -> Result<(), FaultError> {
        match self.action {
            Action::Delay { by, jitter } if jitter.is_zero() => some_time("delay", by),
            Action::Delay { by, jitter } => {
                some_time("jitter", jitter)?;
                // With jitter, the fixed part may be 0.
                some_time("delay", by.max(Duration::from_nanos(1)))
            }
            Action::Throttle(rate) => within("throttle", rate, 1..=MAX_NUMBER),
            Action::Slice(bytes) => {
                let largest = match (self.at, self.cmd) {
                    // Pushed messages pass this site too, and can be as long as any frame.
                    (Site::Notify, Some(Cmd::SendP2PMsg)) => MAX_SLICE,
                    (Site::Notify, _) => MAX_SLICE_OF_NOTIFY,
                    _ => MAX_SLICE,
                };
                within("slice", bytes as u64, 1..=largest)
            }
            Action::Error(Code::Ok) => Err(FaultError::no_code(Code::Ok.number())),
            _ => Ok(()),
        }
    }

    fn check_filters(&self) -> Result<(), FaultError> {
        let at = self.at;
        let given = [
            ("uid", self.uid.is_some()),
            ("access", self.access.is_some()),
            ("session", self.session.is_some()),
            ("cmd", self.cmd.is_some()),
            ("direction", self.direction.is_some()),
        ];
        for (key, is_given) in given {
            if is_given && !at.filters().contains(&key) {
                return Err(FaultError::NoSuchFilter { at, key });
            }
        }
        match (self.direction, at.direction()) {
            (Some(given), Some(passes)) if given != passes => Err(FaultError::NeverPasses {
                at,
                key: "direction",
                value: direction(given),
                fits: direction(passes).to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn check_cmd(&self) -> Result<(), FaultError> {
        let Some(cmd) = self.cmd else {
            return Ok(());
        };
        let at = self.at;
        // A stale frame is an answer with an old address, and only one command answers with an address.
        let fits: &[Cmd] = match (self.action, at) {
            (Action::Stale, _) => &[Cmd::ReqAccessServer],
            // A pushed message has no `totalID`.
            (Action::Gap, Site::Notify) => &[Cmd::Notify],
            _ => at.cmds(),
        };
        if fits.contains(&cmd) {
            return Ok(());
        }
        let fits: Vec<&str> = fits.iter().map(|cmd| cmd.name()).collect();
        Err(FaultError::NeverPasses {
            at,
            key: "cmd",
            value: cmd.name(),
            fits: fits.join(", "),
        })
    }
}

impl FaultError {
    /// Creates the error for a code that is no error code of the contract.
    pub(super) fn no_code(code: impl Display) -> Self {
        let codes = Code::ALL.iter().filter(|code| **code != Code::Ok);
        let codes: Vec<String> = codes.map(|code| code.number().to_string()).collect();
        let bounds = format!("an error code of the contract: {}", codes.join(", "));
        FaultError::out_of_bounds("error", code, bounds)
    }
}

const fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "in",
        Direction::Out => "out",
    }
}

fn within(key: &'static str, value: u64, bounds: RangeInclusive<u64>) -> Result<(), FaultError> {
    if bounds.contains(&value) {
        return Ok(());
    }
    Err(FaultError::out_of_bounds(key, value, whole_number(&bounds)))
}

fn some_time(key: &'static str, time: Duration) -> Result<(), FaultError> {
    if !time.is_zero() && time <= MAX_TIME {
        return Ok(());
    }
    let value = humantime::format_duration(time);
    let bounds = "more than 0s and at most 365 days";
    Err(FaultError::out_of_bounds(key, value, bounds))
}
