//! Defines the arguments of the commands that control and inspect a running stack.
//!
//! Serves the commands of [`lab`](super). Doc comments on the argument types are the help texts of `--help`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, TypedValueParser};
use clap::{ArgGroup, Args, Subcommand};
use imd::id::Uid;
use imd::lab::Fault;
use serde_json::{Map, Value, json};

use crate::cli::duration::{duration, signed_ms};
use crate::cli::failure::Failure;
use crate::cli::id;

/// The flags that name the admin API. A URL counts first, then the addresses file, then the config, then IMD_ADMIN.
#[derive(Args)]
#[command(next_help_heading = "Where the stack is")]
pub struct AdminArgs {
    /// The admin API [default: $IMD_ADMIN, or http://127.0.0.1:10090]
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// Take its address from the file that a daemon wrote with its --addr-file
    #[arg(long, value_name = "FILE")]
    pub addr_file: Option<PathBuf>,
    /// Take its address and token from the daemon's config
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Args)]
pub struct DemoArgs {
    /// Only print its address
    #[arg(long)]
    pub print: bool,
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[derive(Subcommand)]
pub enum AccessCommand {
    /// Print the access servers, one JSON line each
    Ls {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Reset every connection and close the listener; the lease stays until it runs out
    Kill {
        /// The access server
        #[arg(allow_hyphen_values = true)]
        name: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Deregister, tell and drain the sessions, close the listener
    Stop {
        /// The access server
        #[arg(allow_hyphen_values = true)]
        name: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Accept and answer nothing; the sockets stay open
    Pause {
        /// The access server
        #[arg(allow_hyphen_values = true)]
        name: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Go on after a pause
    Resume {
        /// The access server
        #[arg(allow_hyphen_values = true)]
        name: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Serve again, under the same name and address
    Restart {
        /// The access server
        #[arg(allow_hyphen_values = true)]
        name: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Start one more, on a free port
    Add {
        /// Its name
        #[arg(allow_hyphen_values = true)]
        name: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

#[derive(Subcommand)]
pub enum FaultCommand {
    /// Put a fault in force, and print its name as JSON
    Add(Box<FaultArgs>),
    /// Print the faults in force, one JSON line each, with their hits
    Ls {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// End a fault, or all of them
    #[command(group = ArgGroup::new("which").required(true))]
    Rm {
        /// Its name
        #[arg(allow_hyphen_values = true, group = "which", value_parser = NonEmptyStringValueParser::new())]
        name: Option<String>,
        /// End all of them
        #[arg(long, group = "which")]
        all: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

#[derive(Subcommand)]
pub enum ClockCommand {
    /// Move a manual clock; what is due on the way is done when this returns
    Advance {
        /// How far, such as 15s
        #[arg(value_name = "TIME", allow_hyphen_values = true, value_parser = duration)]
        by: Duration,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Move the wall clock alone, either way
    Skew {
        /// How far, such as 15s or -1h
        #[arg(value_name = "TIME", allow_hyphen_values = true, value_parser = signed_ms)]
        ms: i64,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Print the time
    Show {
        #[command(flatten)]
        admin: AdminArgs,
    },
}

#[derive(Args)]
pub struct ResetArgs {
    /// Do not ask, also where the store is in a folder
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[derive(Subcommand)]
pub enum SnapshotCommand {
    /// Write all that the store holds into a file, which its owner alone may read: it has password hashes and texts
    Save {
        /// The file; where there is one already, it is left alone
        file: PathBuf,
        /// Replace a file that is there already
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Replace all that the store holds by such a file, and end every session
    Load {
        /// The file
        file: PathBuf,
        /// Do not ask, also where the store is in a folder
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

#[derive(Args)]
pub struct TailArgs {
    /// Only this user's frames
    #[arg(long, value_parser = clap::value_parser!(i64).map(Uid))]
    pub uid: Option<Uid>,
    /// Only frames of this command, by number or name
    #[arg(long)]
    pub cmd: Option<String>,
    /// Only at this access server, or at the gateway
    #[arg(long)]
    pub server: Option<String>,
    /// One JSON line each
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[derive(Args)]
pub struct ReadyArgs {
    /// Wait until the stack serves, for at most this long
    #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "30s", value_parser = duration)]
    pub wait: Option<Duration>,
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[derive(Args)]
pub struct InboxesArgs {
    /// Print what is in the inbox of this user; no read mark moves [default: count the messages of every inbox]
    #[arg(value_parser = id::<Uid>(), allow_negative_numbers = true)]
    pub uid: Option<Uid>,
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[derive(Args)]
pub struct WaitArgs {
    /// Look at what has passed since this mark too, as `imd mark` prints it
    #[arg(long, value_name = "MARK")]
    pub since: Option<u64>,
    /// Only events of this user
    #[arg(long, value_parser = clap::value_parser!(i64).map(Uid))]
    pub uid: Option<Uid>,
    /// Only frames of this command, by number or name
    #[arg(long)]
    pub cmd: Option<String>,
    /// Only at this access server, or at the gateway
    #[arg(long)]
    pub server: Option<String>,
    /// Only on this session
    #[arg(long, value_name = "ID")]
    pub session: Option<u64>,
    /// Only events of this kind: in, out, opened, closed or fault
    #[arg(long)]
    pub what: Option<String>,
    /// Print the bytes of the frame too, tokens included
    #[arg(long)]
    pub bytes: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub timeout: Duration,
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[derive(Args)]
pub struct FaultArgs {
    #[command(flatten)]
    pub fault: FaultFlags,
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// A fault, with a flag for each of its keys in imd.toml. The values are texts here, because one place checks them, whether
/// they come from a flag, by HTTP or from imd.toml.
#[derive(Args)]
pub struct FaultFlags {
    /// Where: gateway.reply, registry.lease, access.accept, access.login, access.request, access.reply, notify,
    /// idgen.next, store.write or store.read
    #[arg(long, value_name = "SITE")]
    at: String,
    /// What it is called
    #[arg(long)]
    name: Option<String>,
    /// Only for this user
    #[arg(long, allow_hyphen_values = true)]
    uid: Option<String>,
    /// Only at this access server
    #[arg(long, value_name = "NAME")]
    access: Option<String>,
    /// Only on this session
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    session: Option<String>,
    /// Only frames of this command, by number or name
    #[arg(long)]
    cmd: Option<String>,
    /// Only what goes this way: in or out
    #[arg(long)]
    direction: Option<String>,
    /// Only the n-th that matches
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    nth: Option<String>,
    /// Not the first N that match
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    after: Option<String>,
    /// At most this many hits
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    times: Option<String>,
    /// By chance, 0 to 1
    #[arg(long, value_name = "P", allow_hyphen_values = true)]
    probability: Option<String>,
    /// Only for this time, such as 10s
    #[arg(long = "for", value_name = "TIME", allow_hyphen_values = true)]
    lasting: Option<String>,
    /// Wait this long
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        help_heading = "What it does"
    )]
    delay: Option<String>,
    /// And up to this much longer, by chance
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        help_heading = "What it does"
    )]
    jitter: Option<String>,
    /// It does not happen
    #[arg(long, help_heading = "What it does")]
    drop: bool,
    /// It happens twice
    #[arg(long, help_heading = "What it does")]
    duplicate: bool,
    /// It happens after the next one
    #[arg(long, help_heading = "What it does")]
    reorder: bool,
    /// It fails with this code
    #[arg(
        long,
        value_name = "CODE",
        allow_hyphen_values = true,
        help_heading = "What it does"
    )]
    error: Option<String>,
    /// The connection is reset
    #[arg(long, help_heading = "What it does")]
    reset: bool,
    /// The connection stays open, and nothing more is read or written
    #[arg(long, help_heading = "What it does")]
    half_open: bool,
    /// This many bytes leave each second, such as 1000 or 16KiB
    #[arg(
        long,
        value_name = "BYTES",
        allow_hyphen_values = true,
        help_heading = "What it does"
    )]
    throttle: Option<String>,
    /// This many bytes leave at a time
    #[arg(
        long,
        value_name = "BYTES",
        allow_hyphen_values = true,
        help_heading = "What it does"
    )]
    slice: Option<String>,
    /// Half of the frame leaves, then the connection is closed
    #[arg(long, help_heading = "What it does")]
    truncate: bool,
    /// What was true before
    #[arg(long, help_heading = "What it does")]
    stale: bool,
    /// A version is left out
    #[arg(long, help_heading = "What it does")]
    gap: bool,
}

impl FaultFlags {
    /// Returns the fault as the body of the request that adds it.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] when the flags describe no valid fault for any stack, with what is wrong.
    pub fn request_body(&self) -> Result<Value, Failure> {
        let yes = |given: bool| given.then_some(json!(true));
        let text = |given: &Option<String>| given.as_ref().map(|text| json!(text));
        let keys = [
            ("at", Some(json!(self.at))),
            ("name", text(&self.name)),
            ("uid", text(&self.uid)),
            ("access", text(&self.access)),
            ("session", text(&self.session)),
            ("cmd", text(&self.cmd)),
            ("direction", text(&self.direction)),
            ("nth", text(&self.nth)),
            ("after", text(&self.after)),
            ("times", text(&self.times)),
            ("probability", text(&self.probability)),
            ("for", text(&self.lasting)),
            ("delay", text(&self.delay)),
            ("jitter", text(&self.jitter)),
            ("drop", yes(self.drop)),
            ("duplicate", yes(self.duplicate)),
            ("reorder", yes(self.reorder)),
            ("error", text(&self.error)),
            ("reset", yes(self.reset)),
            ("half_open", yes(self.half_open)),
            ("throttle", text(&self.throttle)),
            ("slice", text(&self.slice)),
            ("truncate", yes(self.truncate)),
            ("stale", yes(self.stale)),
            ("gap", yes(self.gap)),
        ];
        let given = keys
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?)));
        let body = Value::Object(given.collect::<Map<_, _>>());
        let fault = serde_json::from_value::<Fault>(body);
        fault
            .and_then(serde_json::to_value)
            .map_err(|wrong| Failure::Usage(wrong.to_string()))
    }
}
