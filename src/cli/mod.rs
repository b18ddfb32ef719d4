//! Defines the command line of `imd`: its flags, its commands and their arguments, and dispatches each command.
//!
//! Serves `main`, which runs the daemon itself; every other command is a module below this one. The doc comments of
//! the argument types are the help texts that `--help` prints.

pub mod addr_file;
mod advice;
mod api;
mod backoff;
pub mod banner;
mod bench;
mod ca;
mod chat;
mod duration;
mod endpoint;
pub mod environment;
mod escape;
mod existing;
pub mod failure;
mod flag_variables;
mod http;
mod inbox;
mod lab;
mod lan;
pub mod launch;
mod link;
mod log;
pub mod output;
mod peer;
pub mod qr_code;
mod recording;
mod refusal;
mod script;
pub mod settings;
pub mod signals;
mod stack_addresses;
pub mod stderr;
mod store;
mod sync;
pub mod trust;

pub use log::{LogFormat, init as init_log};

use std::any::TypeId;
use std::borrow::Cow;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgGroup, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use bench::BenchArgs;
use escape::escape_lines;
use failure::Failure;
use imd::id::{GroupId, Uid};
use lab::{
    AccessCommand, AdminArgs, ClockCommand, DemoArgs, ExecArgs, FaultCommand, InboxesArgs,
    ReadyArgs, ResetArgs, SnapshotCommand, TailArgs, WaitArgs,
};
use launch::LaunchArgs;
use recording::{RecordArgs, ReplayArgs};

/// A whole instant-messaging stack in one process, for the developers of its clients.
///
/// Without a command it runs the stack: gateway, access servers and HTTP API.
///
/// The word after an option that takes a text or a number is its value, also where it begins with a hyphen. Times have a
/// unit: 500ms, 15s, 1h. Sizes in bytes may have one: 64KiB, 16MiB.
///
/// Each key of the config has an environment variable, which counts more than the file: IMD_SESSION__IDLE=10s.
#[derive(Parser)]
#[command(name = "imd", version)]
pub struct Cli {
    #[command(flatten)]
    pub daemon: DaemonArgs,
    /// How logs are written to stderr; what is logged is set by RUST_LOG (default: warn)
    #[arg(long, global = true, value_enum, default_value = "pretty")]
    pub log_format: LogFormat,
    /// Trust the certificates in this file too, where a stack speaks TLS [default: $IMD_CA]
    #[arg(long, global = true, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The flags of the daemon. They count more than the config.
#[derive(Args)]
pub struct DaemonArgs {
    /// The config, as TOML [default: the imd.toml that imd is shipped with, but everything in memory]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Let every listener listen on this address of the machine: 0.0.0.0 or :: for all; the admin API only with a token
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Let every listener take a free port
    #[arg(long)]
    pub any_port: bool,
    /// Take WebSocket clients too, at the gateway and at every access server: 100 ports higher, if ws_listen does not say where
    #[arg(long)]
    pub ws: bool,
    /// What clients are told to dial, for every access server; each adds its own port
    #[arg(long, value_name = "HOST")]
    pub advertise: Option<String>,
    /// Write the addresses here, as JSON, once everything serves; removed at a clean stop
    #[arg(long, value_name = "FILE")]
    pub addr_file: Option<PathBuf>,
    /// How many access servers there are
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub access: Option<u16>,
    /// Keep everything in this folder
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
    /// Keep everything in memory, whatever the config says
    #[arg(long, conflicts_with = "store")]
    pub memory: bool,
    /// Stop the stack's clock: it moves only by `imd clock advance` or the admin API
    #[arg(long)]
    pub manual_clock: bool,
    /// The ids of the flags whose values come from environment variables
    #[arg(skip)]
    by_variable: Vec<String>,
}

impl DaemonArgs {
    /// Returns the name of what has set a flag: the variable, or the flag itself. `id` is the name of the flag's field.
    pub fn source(&self, id: &str) -> String {
        match self.by_variable.iter().any(|by| by == id) {
            true => flag_variables::name(id),
            false => format!("--{}", id.replace('_', "-")),
        }
    }
}

#[derive(Subcommand)]
pub enum Command {
    /// Check a config and print all of it, with the defaults, and where each value comes from
    ///
    /// It takes the flags of the daemon, and prints the config that the daemon would have with them.
    Check(DaemonArgs),
    /// Print the token that logs a user in
    Token(TokenArgs),
    /// Register a user
    Register(RegisterArgs),
    /// Create a group, join it, quit it
    #[command(subcommand)]
    Group(GroupCommand),
    /// Send one message, and print its id as JSON
    ///
    /// Logs in as the sender: by default, another session of that user is closed.
    Send(SendArgs),
    /// Print a user's messages, one JSON line each
    ///
    /// Logs in as that user: by default, another session of the user is closed. What is printed counts as read.
    Sync(SyncArgs),
    /// Chat in the terminal, or line by line from a pipe
    Chat(ChatArgs),
    /// Tell or renew the local CA, which clients of a stack with tls.local_ca have to trust
    #[command(subcommand)]
    Ca(CaCommand),
    /// Look into the folder of a store that no imd is using
    #[command(subcommand)]
    Store(StoreCommand),
    /// Put load on a stack, measure it, and check that every message arrived exactly once
    Bench(BenchArgs),
    /// Run a command beside a private stack, and end with its code
    ///
    /// The command finds the stack by IMD_GATEWAY, IMD_USER_API, IMD_GROUP_API, IMD_ADMIN and IMD_SALT; so do imd's own
    /// commands.
    Exec(ExecArgs),
    /// Open the web client of a running stack in the browser, and print its address
    ///
    /// Without a browser, it only prints the address. The stack has to take WebSocket clients: start it with --ws.
    Demo(DemoArgs),
    /// List the access servers; kill, stop, pause, resume, restart or add one
    #[command(subcommand)]
    Access(AccessCommand),
    /// Put faults in force, list them, end them
    #[command(subcommand)]
    Fault(FaultCommand),
    /// Move the time
    #[command(subcommand)]
    Clock(ClockCommand),
    /// Make a running stack as new: nothing is left in it but what the config has there from the start
    Reset(ResetArgs),
    /// Save all that a running stack's store holds, and load it again
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Print everything at a glance, as JSON
    State(AdminArgs),
    /// Print who is registered or online, one JSON line each
    Users(AdminArgs),
    /// Print the groups and their members, one JSON line each
    Groups(AdminArgs),
    /// Print what became of the messages of each inbox, or what is in one, one JSON line each
    Inboxes(InboxesArgs),
    /// Print the sessions, one JSON line each
    Sessions(AdminArgs),
    /// Print a mark in the journal: a number for wait --since
    ///
    /// What passes after it is recorded for five minutes, so that it can be waited for later.
    Mark(AdminArgs),
    /// Wait for an event and print it as JSON; also for one that has passed since --since
    ///
    /// Exits with 1 when it does not come in time.
    Wait(WaitArgs),
    /// Print frames as they pass, decoded
    Tail(TailArgs),
    /// Write frames down as they pass, to be replayed
    Record(RecordArgs),
    /// Say again what recorded clients said, to any stack, and tell which replies differ
    ///
    /// Users and groups have to be there, and their inboxes as they were. Exits with 1 when something differs.
    Replay(Box<ReplayArgs>),
    /// Exit with 0 if the stack serves
    Ready(ReadyArgs),
    /// What a child of imd runs first
    #[command(name = launch::NAME, hide = true)]
    Launch(LaunchArgs),
}

#[derive(Subcommand)]
pub enum CaCommand {
    /// Print the path of its certificate, which is made if there is none
    Path(ConfigArgs),
    /// Print its certificate, as PEM
    Print(ConfigArgs),
    /// Make a new CA in its place, which has to be trusted again
    Renew(ConfigArgs),
}

#[derive(Subcommand)]
pub enum StoreCommand {
    /// Read everything, make sure that it is whole, and say what there is
    Check {
        /// The folder
        dir: PathBuf,
    },
    /// Print users, groups and messages, one JSON line each
    Dump {
        /// The folder
        dir: PathBuf,
        /// Only what belongs to this user
        #[arg(long, value_parser = id::<Uid>())]
        uid: Option<Uid>,
    },
    /// Give back the room of what was removed
    Compact {
        /// The folder
        dir: PathBuf,
    },
}

#[derive(Args)]
pub struct ConfigArgs {
    /// The config, as TOML [default: the imd.toml that imd is shipped with, but everything in memory]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Args)]
pub struct TokenArgs {
    /// The user
    #[arg(value_parser = id::<Uid>(), allow_negative_numbers = true)]
    pub uid: Uid,
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// Where the stack is. An address of its own counts first, then the addresses file, then the config, then what
/// `imd exec` has set in the environment.
#[derive(Args)]
#[command(next_help_heading = "Where the stack is")]
pub struct TargetArgs {
    /// The gateway [default: $IMD_GATEWAY, or 127.0.0.1:10000]
    #[arg(long, value_name = "ADDR")]
    pub gateway: Option<String>,
    /// The user API [default: $IMD_USER_API, or http://127.0.0.1:6001]
    #[arg(long, value_name = "URL")]
    pub user_api: Option<String>,
    /// The group API [default: $IMD_GROUP_API, or http://127.0.0.1:7001]
    #[arg(long, value_name = "URL")]
    pub group_api: Option<String>,
    /// Take the addresses from the file that a daemon wrote with its --addr-file
    #[arg(long, value_name = "FILE")]
    pub addr_file: Option<PathBuf>,
    /// Take addresses and token salt from the daemon's config
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Where the stack is, and how to log in to it.
#[derive(Args)]
pub struct LoginArgs {
    #[command(flatten)]
    pub target: TargetArgs,
    /// Log in with this token [default: computed from the user and the salt: the config's, or $IMD_SALT]
    #[arg(long)]
    pub token: Option<String>,
}

#[derive(Args)]
pub struct RegisterArgs {
    /// The new user
    #[arg(long, value_parser = id::<Uid>())]
    pub uid: Uid,
    /// The user's name
    #[arg(long, default_value = "")]
    pub name: String,
    /// The user's password
    #[arg(long, value_name = "PASSWORD", default_value = "")]
    pub pw: String,
    #[command(flatten)]
    pub target: TargetArgs,
}

#[derive(Subcommand)]
pub enum GroupCommand {
    /// Create a group and print {"gid":"..."}: a string, because 64 bits do not fit a JSON number everywhere
    Create {
        /// Who creates it: the first member
        #[arg(long, value_parser = id::<Uid>())]
        uid: Uid,
        /// The group's name
        #[arg(long, default_value = "")]
        name: String,
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Become a member
    Join(MemberArgs),
    /// Be a member no more
    Quit(MemberArgs),
}

#[derive(Args)]
pub struct MemberArgs {
    /// The user
    #[arg(long, value_parser = id::<Uid>())]
    pub uid: Uid,
    /// The group
    #[arg(long, value_parser = id::<GroupId>())]
    pub gid: GroupId,
    #[command(flatten)]
    pub target: TargetArgs,
}

#[derive(Args)]
#[command(group = ArgGroup::new("receiver").required(true))]
pub struct SendArgs {
    /// The sender
    #[arg(long, value_name = "UID", value_parser = id::<Uid>())]
    pub from: Uid,
    /// The receiver
    #[arg(long, value_name = "UID", value_parser = id::<Uid>(), group = "receiver")]
    pub to: Option<Uid>,
    /// The group that receives it
    #[arg(long, value_name = "GID", value_parser = id::<GroupId>(), group = "receiver")]
    pub group: Option<GroupId>,
    /// The message; - reads it from stdin, without the end of its last line
    ///
    /// It may begin with a hyphen. Only where it is one of the options listed here, such as --token, write -- before it.
    #[arg(allow_hyphen_values = true)]
    pub text: String,
    /// The message's id; a message that is sent again with the same id is not stored twice [default: a new one]
    #[arg(long, value_name = "ID")]
    pub msg_id: Option<String>,
    #[command(flatten)]
    pub login: LoginArgs,
}

#[derive(Args)]
pub struct SyncArgs {
    /// The user
    #[arg(long, value_parser = id::<Uid>())]
    pub uid: Uid,
    /// Begin after this version; where the inbox does not reach so far, nothing is printed
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    pub after: i64,
    /// Go on with what arrives, until a signal or until nobody reads stdout
    #[arg(long)]
    pub follow: bool,
    #[command(flatten)]
    pub login: LoginArgs,
}

#[derive(Args)]
pub struct ChatArgs {
    /// Who you are
    #[arg(long, value_parser = id::<Uid>())]
    pub uid: Uid,
    #[command(flatten)]
    pub login: LoginArgs,
}

/// Returns a parser for the id of a user or a group: a number from 1 up.
fn id<T>() -> impl TypedValueParser<Value = T>
where
    T: From<i64> + Clone + Send + Sync + 'static,
{
    clap::value_parser!(i64).range(1..).map(T::from)
}

impl Cli {
    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// Arguments that can't be parsed. `--help` and `--version` are returned as errors too, as clap does it;
    /// [`clap::Error::use_stderr`] tells them apart.
    pub fn read() -> Result<Cli, clap::Error> {
        Cli::parse_args(std::env::args_os()).map_err(escape_error)
    }

    /// Parses the arguments and the variables of the daemon's flags, and refuses daemon flags that stand before a command.
    fn parse_args(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
        let args: Vec<OsString> = args.into_iter().collect();
        let matches = flag_variables::parse(&command(), &args)?;
        let mut cli = Cli::from_arg_matches(&matches)?;
        let given = daemon_flags_from(&matches, ValueSource::CommandLine);
        if let (Some(flag), Some(_)) = (given.first(), &cli.command) {
            let flag = flag.replace('_', "-");
            let why =
                format!("--{flag} before a command is the daemon's: write it after the command");
            return Err(Cli::command().error(ErrorKind::ArgumentConflict, why));
        }
        let daemon = match &mut cli.command {
            Some(Command::Check(args)) => args,
            _ => &mut cli.daemon,
        };
        let matches = matches
            .subcommand()
            .map_or(&matches, |(_, matches)| matches);
        daemon.by_variable = daemon_flags_from(matches, ValueSource::EnvVariable);
        Ok(cli)
    }

    /// Returns the names of the variables that stand for flags.
    pub fn flag_variables() -> Vec<String> {
        flag_variables::names(&Cli::command())
    }
}

/// Returns the ids of the daemon's flags that come from this source, in the order of their definition.
fn daemon_flags_from(matches: &ArgMatches, source: ValueSource) -> Vec<String> {
    let daemon = DaemonArgs::augment_args(clap::Command::new("imd"));
    let ids = daemon.get_arguments().map(|arg| arg.get_id().as_str());
    let is_from = |id: &&str| {
        let known = matches.try_contains_id(id).is_ok();
        known && matches.value_source(id) == Some(source)
    };
    ids.filter(is_from).map(str::to_owned).collect()
}

/// Builds the clap command with one rule for every option that takes a text: the word after the option is its value,
/// even where it begins with a hyphen.
///
/// Two kinds of options are exempt: those that take a file or a folder, because a word with a hyphen there was meant
/// as another option, and those whose value is optional.
fn command() -> clap::Command {
    fn taking_hyphens(command: clap::Command) -> clap::Command {
        let takes_text = |arg: &clap::Arg| {
            let is_path = arg.get_value_parser().type_id() == TypeId::of::<PathBuf>();
            let is_optional = arg.get_num_args().is_some_and(|n| n.min_values() == 0);
            arg.get_action().takes_values() && !arg.is_positional() && !is_path && !is_optional
        };
        command
            .mut_args(|arg| {
                let takes_text = takes_text(&arg);
                if takes_text {
                    arg.allow_hyphen_values(true)
                } else {
                    arg
                }
            })
            .mut_subcommands(taking_hyphens)
    }
    taking_hyphens(Cli::command())
}

/// Escapes the control characters in a parse error, which repeats text from the command line that a terminal would
/// otherwise obey.
fn escape_error(error: clap::Error) -> clap::Error {
    let text = error.render().to_string();
    match escape_lines(&text) {
        Cow::Borrowed(_) => error,
        Cow::Owned(text) => {
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            clap::Error::raw(error.kind(), text)
        }
    }
}

/// Runs one command to its end.
///
/// # Errors
///
/// Whatever made the command fail, worded for the user. The caller reports it and exits with its code.
pub async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Check(args) => settings::check(&args),
        Command::Token(args) => settings::token(&args),
        Command::Register(args) => script::register(&args).await,
        Command::Group(command) => script::group(&command).await,
        Command::Send(args) => script::send(&args).await,
        Command::Sync(args) => sync::run(&args).await,
        Command::Chat(args) => chat::run(&args).await,
        Command::Ca(command) => ca::run(&command),
        Command::Store(command) => store::run(command).await,
        Command::Bench(args) => bench::run(&args).await,
        Command::Exec(args) => lab::exec(&args).await,
        Command::Demo(args) => lab::demo(&args).await,
        Command::Access(command) => lab::access(&command).await,
        Command::Fault(command) => lab::fault(&command).await,
        Command::Clock(command) => lab::clock(&command).await,
        Command::Reset(args) => lab::reset(&args).await,
        Command::Snapshot(command) => lab::snapshot(&command).await,
        Command::State(args) => lab::state(&args).await,
        Command::Users(args) => lab::users(&args).await,
        Command::Groups(args) => lab::groups(&args).await,
        Command::Inboxes(args) => lab::inboxes(&args).await,
        Command::Sessions(args) => lab::sessions(&args).await,
        Command::Mark(args) => lab::mark(&args).await,
        Command::Wait(args) => lab::wait(&args).await,
        Command::Tail(args) => lab::tail(&args).await,
        Command::Record(args) => recording::record(&args).await,
        Command::Replay(args) => recording::replay(&args).await,
        Command::Ready(args) => lab::ready(&args).await,
        Command::Launch(args) => Err(launch::run(&args)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_of_all_commands_are_consistent() {
        command().debug_assert();
    }
}
