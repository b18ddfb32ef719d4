//! Defines the arguments of `imd bench`, and builds the plan of a run from them and the defaults.
//!
//! Serves [`run`](fn@super::run). A [`Plan`] is complete and free of contradictions, so no later step checks it again. Doc
//! comments on the argument types are the help texts of `--help`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use imd::byte_size;
use imd::load::{Pattern, Until};
use serde::Serialize;

use super::stamp;
use crate::cli::duration::some_time;
use crate::cli::environment;
use crate::cli::failure::Failure;

/// Time between two heartbeats of an idle user, in seconds.
const HEARTBEAT: f64 = 10.0;

/// Longest text of a message, in bytes.
const MAX_TEXT_BYTES: u16 = 32_768;

/// Duration of a run, unless a time or a count was given.
const TIME: Duration = Duration::from_secs(5);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Ask the gateway for an access server, over standing connections
    Gateway,
    /// Connect to the gateway, ask, close
    Connect,
    /// Users write to each other
    P2p,
    /// One user writes to a group of all
    Group,
    /// Users are logged in and send a heartbeat every 10 s: memory and CPU
    Idle,
    /// Users read filled inboxes, page by page
    Sync,
}

/// What `imd bench` can be told.
#[derive(Clone, Args)]
pub struct BenchArgs {
    /// What is measured
    #[arg(value_enum, default_value = "p2p")]
    pub kind: Kind,
    /// The gateway of a running stack [default: $IMD_GATEWAY, or a private imd in a process of its own]
    ///
    /// The users' inboxes on it get the messages, and other sessions of these users are closed. With --config, --store or
    /// --share-cores, $IMD_GATEWAY does not count.
    #[arg(long, value_name = "GATEWAY")]
    pub addr: Option<String>,
    /// The group API of the stack at --addr; a group is made on it [default: $IMD_GROUP_API]
    #[arg(long, value_name = "URL")]
    pub group_api: Option<String>,
    /// The config of the private imd; of the stack at --addr, the token salt is taken from it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Let the private imd keep everything in this folder [default: in memory]
    #[arg(long, value_name = "DIR", conflicts_with = "addr")]
    pub store: Option<PathBuf>,
    /// Let the private imd and the load generator share all cores [default: imd has one, the load generator the others]
    #[arg(long, conflicts_with = "addr")]
    pub share_cores: bool,
    /// Users, each with a connection [default: gateway and connect 50, p2p 100, group 1000, idle 5000, sync 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub users: Option<u32>,
    /// The first user's UID; the others follow
    #[arg(long, value_name = "UID", default_value_t = 1_000_001, value_parser = clap::value_parser!(i64).range(1..=1 << 40))]
    pub first_uid: i64,
    /// Requests that each sender has open [default: p2p and group 16, others 1]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=100_000), conflicts_with = "rate")]
    pub outstanding: Option<u32>,
    /// Who gets the messages of `p2p` [default: random]
    #[arg(long, value_enum)]
    pub pattern: Option<Pattern>,
    /// When a message of `p2p` makes room for the next one [default: delivered]
    #[arg(long, value_enum, conflicts_with = "rate")]
    pub until: Option<Until>,
    /// Leave the messages' ids to the server
    #[arg(long)]
    pub no_msg_id: bool,
    /// Bytes of a message's text, such as 100 or 4KiB
    #[arg(long, value_name = "BYTES", default_value_t = 32, value_parser = size)]
    pub size: u16,
    /// Messages or requests per second in all, on schedule: latencies count from the scheduled time
    #[arg(long, value_name = "R", value_parser = positive)]
    pub rate: Option<f64>,
    /// How long requests are made [default: 5s, or without end with --count]
    #[arg(long = "for", value_name = "TIME", value_parser = some_time)]
    pub lasting: Option<Duration>,
    /// As --for, in seconds; kept for old scripts
    #[arg(long, value_name = "S", hide = true, value_parser = seconds, conflicts_with = "lasting")]
    pub secs: Option<f64>,
    /// How many requests are made
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Messages in each inbox before `sync` begins
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub fill: u32,
    /// Threads of the load generator
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,
    /// Give up when nothing has arrived for this long
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = some_time)]
    pub patience: Duration,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

impl BenchArgs {
    /// Returns the arguments with the addresses of a running stack that the environment has. Arguments that only a private
    /// stack can have keep it private.
    pub fn with_environment(&self) -> BenchArgs {
        let mut args = self.clone();
        let is_private = args.config.is_some() || args.store.is_some() || args.share_cores;
        if args.addr.is_none() && !is_private {
            args.addr = environment::read(environment::GATEWAY);
        }
        if args.addr.is_some() && args.group_api.is_none() {
            args.group_api = environment::read(environment::GROUP_API);
        }
        args
    }
}

/// Makes sure that the options about messages fit the kind of the run and one another.
fn check_message_options(args: &BenchArgs) -> Result<(), Failure> {
    let sends = matches!(args.kind, Kind::P2p | Kind::Group);
    let wrong = if args.kind != Kind::P2p && args.pattern.is_some() {
        "--pattern is for p2p, where users write to each other".to_owned()
    } else if args.kind != Kind::P2p && args.until.is_some() {
        "--until is for p2p, where each message has one receiver".to_owned()
    } else if args.no_msg_id && !sends {
        "--no-msg-id is for p2p and group, which send messages".to_owned()
    } else if args.no_msg_id && usize::from(args.size) < stamp::LEN {
        format!(
            "--no-msg-id needs a --size of {} or more: the text says which message it is",
            stamp::LEN
        )
    } else {
        return Ok(());
    };
    Err(Failure::Usage(wrong))
}

/// Parses the size of a message's text, in bytes.
fn size(text: &str) -> Result<u16, String> {
    let bytes = byte_size::parse(text).map_err(|error| error.to_string())?;
    let size = u16::try_from(bytes)
        .ok()
        .filter(|&size| size <= MAX_TEXT_BYTES);
    size.ok_or_else(|| format!("{bytes} is more than {MAX_TEXT_BYTES}, or 32KiB"))
}

/// Parses the value of the hidden `--secs`, which has no unit so that older scripts go on working. The error
/// recommends `--for` instead.
fn seconds(text: &str) -> Result<f64, String> {
    positive(text).map_err(|_| "write --for, and a time with its unit, such as --for 2s".into())
}

/// Parses a finite number above 0.
fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number > 0.0 && number <= 1e9 => Ok(number),
        _ => Err("give a number over 0, at most 1000000000".into()),
    }
}

/// When the next request is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// A closed loop: a user makes a request whenever fewer than this number are unanswered.
    Closed(usize),
    /// A schedule: this number of requests per second in total, whether they are answered or not.
    Open(f64),
}

/// The plan of a run: the arguments, completed by the defaults of the kind.
#[derive(Debug, Clone)]
pub struct Plan {
    pub kind: Kind,
    /// Set when the stack is a private process that has no core of its own.
    pub shares_cores: bool,
    pub users: usize,
    /// The UID of the first user. The other users have the numbers after it.
    pub first_uid: i64,
    /// When requests are made.
    pub pace: Pace,
    /// Who gets the messages of a p2p run.
    pub pattern: Pattern,
    /// Whether a message also has to be delivered, not only acknowledged, before it makes room for the next one.
    pub waits_for_delivery: bool,
    /// Whether the users give ids to their messages. Otherwise the server does.
    pub gives_ids: bool,
    pub size: usize,
    /// How long requests are made; `None` means until the count is reached.
    pub time: Option<Duration>,
    /// How many requests are made; `None` means until the time is over.
    pub count: Option<u64>,
    pub fill: u32,
    pub threads: usize,
    /// How long to wait for anything to arrive before the run is given up.
    pub patience: Duration,
}

impl Plan {
    /// Builds the plan from the arguments and the defaults of the kind.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] when the arguments contradict one another.
    pub fn new(args: &BenchArgs) -> Result<Plan, Failure> {
        let (users, outstanding) = match args.kind {
            Kind::Gateway | Kind::Connect => (50, 1),
            Kind::P2p => (100, 16),
            Kind::Group => (1000, 16),
            Kind::Idle => (5000, 1),
            Kind::Sync => (10, 1),
        };
        let users = args.users.unwrap_or(users);
        let outstanding = args.outstanding.unwrap_or(outstanding);
        let takes_many = !matches!(args.kind, Kind::Connect | Kind::Idle);
        if outstanding > 1 && !takes_many {
            return Err(Failure::Usage(
                "--outstanding is 1 here: raise --users instead".into(),
            ));
        }
        if args.kind == Kind::Group && args.addr.is_some() && args.group_api.is_none() {
            return Err(Failure::Usage(
                "give the --group-api of the stack too".into(),
            ));
        }
        if args.group_api.is_some() && args.addr.is_none() {
            return Err(Failure::Usage(
                "--group-api is of a running stack: give its --addr too".into(),
            ));
        }
        check_message_options(args)?;
        let pace = match (args.rate, args.kind) {
            (Some(rate), _) => Pace::Open(rate),
            (None, Kind::Idle) => Pace::Open(f64::from(users) / HEARTBEAT),
            (None, _) => Pace::Closed(outstanding as usize),
        };
        let time = args.secs.map(Duration::from_secs_f64).or(args.lasting);
        let users = users as usize;
        Ok(Plan {
            kind: args.kind,
            // Whether the system gives it a core of its own is known once it has started.
            shares_cores: args.addr.is_none(),
            users,
            first_uid: args.first_uid,
            pace,
            pattern: args.pattern.unwrap_or_default(),
            waits_for_delivery: args.kind == Kind::P2p
                && args.rate.is_none()
                && args.until != Some(Until::Acknowledged),
            gives_ids: !args.no_msg_id,
            size: args.size.into(),
            // Without a time or a count, the run ends after `TIME`.
            time: time.or(args.count.is_none().then_some(TIME)),
            count: args.count,
            fill: args.fill,
            threads: usize::from(args.threads).min(users),
            patience: args.patience,
        })
    }

    /// Returns when a message makes room for the next one; nothing in runs where that is not the question.
    pub fn until(&self) -> Option<Until> {
        match (self.kind, self.pace) {
            (Kind::P2p, Pace::Closed(_)) if self.waits_for_delivery => Some(Until::Delivered),
            (Kind::P2p, Pace::Closed(_)) => Some(Until::Acknowledged),
            _ => None,
        }
    }

    /// Returns the UID of the user with that number.
    pub fn uid(&self, user: usize) -> i64 {
        self.first_uid + i64::try_from(user).unwrap_or_default()
    }

    /// Returns the number of the user with that UID, if it is one of this run.
    pub fn user(&self, uid: i64) -> Option<usize> {
        let user = usize::try_from(uid.checked_sub(self.first_uid)?).ok()?;
        Some(user).filter(|user| *user < self.users)
    }

    /// Returns how many users make requests.
    pub fn senders(&self) -> usize {
        match self.kind {
            Kind::Group => 1,
            _ => self.users,
        }
    }

    /// Returns how many inboxes each acknowledged message has to be found in.
    pub fn fan_out(&self) -> u64 {
        match self.kind {
            Kind::P2p => 1,
            Kind::Group => self.users as u64,
            Kind::Gateway | Kind::Connect | Kind::Idle | Kind::Sync => 0,
        }
    }
}
