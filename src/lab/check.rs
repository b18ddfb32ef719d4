//! Whether a rule can be: the bounds of its numbers, and whether it could ever fire.
//!
//! Every rule passes here, whether it came by Rust, imd.toml, the admin API or the command line.

use std::fmt::Display;
use std::time::Duration;

use super::{Action, Direction, Fault, Site};
use crate::codec::MAX_FRAME;
use crate::proto::{Cmd, Code};

/// The longest time that a fault may take or last.
pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// The largest number that a rule may count up to, or of a session: JSON readers hold every number up to it exactly.
pub(super) const LARGEST: u64 = (1 << 53) - 1;

/// The longest name, in bytes.
const LONGEST_NAME: usize = 128;

/// A piece of this size still cuts the largest frame with its length.
const LARGEST_SLICE: u64 = MAX_FRAME as u64 + 1;

/// A piece of this size still cuts the largest notify: its length takes 2 bytes, its command and `ok` 4 each, and each of
/// its two numbers at most 10.
const LARGEST_SLICE_OF_NOTIFY: u64 = 29;

/// Why a rule can't be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FaultError {
    /// There is no such site.
    #[error("{0:?} is no site: {all}", all = names(&Site::ALL.map(Site::name)))]
    NoSuchSite(String),
    /// There is no such command.
    #[error("{0} is no command: {all}", all = names(&Cmd::ALL.map(Cmd::name)))]
    NoSuchCmd(String),
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
    /// A number, a time or a code outside its bounds.
    #[error("{key}: {value} must be {bounds}")]
    OutOfBounds {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What can be given.
        bounds: String,
    },
    /// What a rule is told that its action or another key has nothing to do with.
    #[error("{key} means nothing with {with}")]
    Pointless {
        /// The key.
        key: &'static str,
        /// What it stands beside.
        with: &'static str,
    },
    /// The rule is narrowed down by what its site does not know, so that it could never fire.
    #[error("{key} means nothing with {at}: {fits}", fits = fitting(.at.filters()))]
    NoSuchFilter {
        /// The site.
        at: Site,
        /// The key.
        key: &'static str,
    },
    /// The rule is for what never passes its site, so that it could never fire.
    #[error("{key}: {value} never passes {at}: {fits} does")]
    NeverPasses {
        /// The site.
        at: Site,
        /// The key.
        key: &'static str,
        /// What was given.
        value: &'static str,
        /// What passes instead.
        fits: String,
    },
    /// The rule is for an access server that is not there, so that it could never fire.
    #[error("access: there is no access server {name:?}: {known}", known = known(.name, .servers))]
    NoSuchServer {
        /// What was given.
        name: String,
        /// Those that are there.
        servers: Vec<String>,
    },
    /// Its name is none that can stand in the path of a request and in a line of a log.
    #[error(
        "name: a fault's name must not be empty, \".\" or \"..\", has no control characters, and at most {LONGEST_NAME} bytes"
    )]
    BadName,
    /// The name stands for another rule.
    #[error("there is a fault of the name {0:?} already")]
    NameTaken(String),
}

pub(super) fn names(names: &[&str]) -> String {
    names.join(", ")
}

/// What narrows a rule down at a site.
fn fitting(filters: &[&str]) -> String {
    match filters {
        [] => "every one that passes there is meant".to_owned(),
        filters => format!("only {} narrows it down there", filters.join(", ")),
    }
}

/// Which access servers there are, and which of them was probably meant.
fn known(name: &str, servers: &[String]) -> String {
    let alike = servers.iter().map(|server| {
        let likeness = strsim::jaro_winkler(name, server);
        (likeness, server)
    });
    let nearest = alike.max_by(|one, other| one.0.total_cmp(&other.0));
    let meant = nearest.filter(|(likeness, _)| *likeness > 0.8);
    let meant = meant.map_or(String::new(), |(_, server)| {
        format!(" (did you mean {server:?}?)")
    });
    format!("there are {}{meant}", servers.join(", "))
}

impl FaultError {
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

/// What a whole number must be.
pub(super) fn whole_number(least: u64, most: u64) -> String {
    format!("a whole number from {least} to {most}")
}

impl Fault {
    /// Whether it can be. Whether there is an access server of the name that it gives is not looked at here.
    ///
    /// # Errors
    ///
    /// What is wrong with it first.
    pub fn check(&self) -> Result<(), FaultError> {
        self.check_name()?;
        if !self.at.allows(&self.action) {
            let (at, action) = (self.at, self.action.name());
            return Err(FaultError::NotThere { at, action });
        }
        self.check_numbers()?;
        self.check_action()?;
        self.check_filters()?;
        self.check_cmd()
    }

    /// Whether the access server that it is for is one of these.
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
            || name.len() > LONGEST_NAME
            || name.chars().any(char::is_control);
        if is_bad {
            return Err(FaultError::BadName);
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), FaultError> {
        // Comparisons with NaN are false.
        if !(self.probability > 0.0 && self.probability <= 1.0) {
            let bounds = "more than 0 and at most 1";
            return Err(FaultError::out_of_bounds(
                "probability",
                self.probability,
                bounds,
            ));
        }
        let most_uid = i64::MAX.unsigned_abs();
        if let Some(uid) = self.uid.filter(|uid| *uid <= 0) {
            let bounds = whole_number(1, most_uid);
            return Err(FaultError::out_of_bounds("uid", uid, bounds));
        }
        let counts = [
            ("session", self.session, 1),
            ("times", self.times, 1),
            ("after", Some(self.after), 0),
        ];
        for (key, value, least) in counts {
            if let Some(value) = value {
                within(key, value, least, LARGEST)?;
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
                // All of it may be by chance.
                some_time("delay", by.max(Duration::from_nanos(1)))
            }
            Action::Throttle(rate) => within("throttle", rate, 1, LARGEST),
            Action::Slice(bytes) => {
                let largest = match self.at {
                    Site::Notify => LARGEST_SLICE_OF_NOTIFY,
                    _ => LARGEST_SLICE,
                };
                within("slice", bytes as u64, 1, largest)
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
        // Only an answer that names an address can name another one.
        let fits: &[Cmd] = match self.action {
            Action::Stale => &[Cmd::ReqAccessServer],
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

fn within(key: &'static str, value: u64, least: u64, most: u64) -> Result<(), FaultError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let bounds = whole_number(least, most);
    Err(FaultError::out_of_bounds(key, value, bounds))
}

fn some_time(key: &'static str, time: Duration) -> Result<(), FaultError> {
    if !time.is_zero() && time <= LONGEST {
        return Ok(());
    }
    let value = humantime::format_duration(time);
    let bounds = "more than 0s and at most 365 days";
    Err(FaultError::out_of_bounds(key, value, bounds))
}
