//! Lets environment variables stand for the flags of the daemon: `IMD_ANY_PORT=true` for `--any-port`.
//!
//! Serves the reading of the command line. Every flag of the daemon has its variable without further ado, and so has
//! `--log-format`. Invariants: a flag on the command line counts more than every variable that contradicts it; a variable
//! that is empty, or `false` where the flag takes no value, counts as unset; an error names the variable that it is about.

use std::env;
use std::ffi::{OsStr, OsString};

use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};
use imd::config::{VARIABLE_PREFIX, switch};

/// The command that takes the flags of the daemon, besides the daemon itself.
const CHECK: &str = "check";

/// Returns the name of the variable for a flag, by the flag's id.
pub fn name(id: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", id.to_ascii_uppercase())
}

/// Returns the names of all variables for flags of this command.
pub fn names(command: &Command) -> Vec<String> {
    let args = command.get_arguments();
    args.map(|arg| name(arg.get_id().as_str())).collect()
}

/// Parses a command line, and takes the flags of the daemon that it does not have from the environment. `command` is the
/// command as it is without variables.
///
/// # Errors
///
/// Arguments that can't be parsed, and variables that can't; and `--help` and `--version`, as clap returns them.
pub fn parse(command: &Command, args: &[OsString]) -> Result<ArgMatches, clap::Error> {
    let plain = match command.clone().try_get_matches_from(args) {
        Ok(plain) => plain,
        // The help texts name the variables.
        Err(error) if !error.use_stderr() => {
            let all = with_variables(command.clone(), &|_| true);
            return Err(all.try_get_matches_from(args).err().unwrap_or(error));
        }
        Err(error) => return Err(error),
    };
    let mut flags = settable(command, &plain);
    while !flags.is_empty() {
        let is_selected = |arg: &Arg| flags.iter().any(|flag| flag.id == arg.get_id().as_str());
        let command = with_variables(command.clone(), &is_selected);
        let error = match command.try_get_matches_from(args) {
            Ok(matches) => return Ok(matches),
            Err(error) => error,
        };
        let shown = arguments_of(&error);
        let (meant, others): (Vec<Flag>, Vec<Flag>) = flags
            .into_iter()
            .partition(|flag| shown.contains(&flag.shown));
        // A conflict of variables with one another is a mistake; one with the command line is decided.
        let is_decided = error.kind() == ErrorKind::ArgumentConflict && meant.len() < shown.len();
        if meant.is_empty() || !is_decided {
            return Err(about(&meant, &error));
        }
        flags = others;
    }
    Ok(plain)
}

/// A flag that has a variable.
struct Flag {
    id: String,
    /// The flag as errors show it.
    shown: String,
}

/// Returns the flags that the command line does not have, but the environment has.
fn settable(command: &Command, plain: &ArgMatches) -> Vec<Flag> {
    let is_daemon = matches!(plain.subcommand_name(), None | Some(CHECK));
    let matches = plain.subcommand().map_or(plain, |(_, matches)| matches);
    let flags = command.get_arguments().filter(|arg| {
        let id = arg.get_id().as_str();
        let applies = is_daemon || arg.is_global_set();
        applies && is_set(arg, env::var_os(name(id)).as_deref())
    });
    let is_given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let ids: Vec<&str> = flags.map(|arg| arg.get_id().as_str()).collect();
    // Only the arguments of a command that was built can be shown.
    let mut built = command.clone();
    if !ids.is_empty() {
        built.build();
    }
    let args = built.get_arguments();
    let args = args.filter(|arg| ids.contains(&arg.get_id().as_str()));
    let flags = args.map(|arg| Flag {
        id: arg.get_id().to_string(),
        shown: arg.to_string(),
    });
    flags.filter(|flag| !is_given(&flag.id)).collect()
}

/// Returns whether the value of a variable sets its flag.
fn is_set(arg: &Arg, value: Option<&OsStr>) -> bool {
    let Some(value) = value.filter(|value| !value.is_empty()) else {
        return false;
    };
    let is_off = value.to_str().and_then(switch) == Some(false);
    !(is_off && is_switch(arg))
}

fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// Returns the command with the variables of the selected flags.
fn with_variables(command: Command, is_selected: &dyn Fn(&Arg) -> bool) -> Command {
    let with_variable = |arg: Arg| {
        if !is_selected(&arg) {
            return arg;
        }
        let variable = name(arg.get_id().as_str());
        let arg = arg.env(variable).hide_env_values(true);
        match is_switch(&arg) {
            true => arg.value_parser(BoolishValueParser::new()),
            false => arg,
        }
    };
    command
        .mut_args(with_variable)
        .mut_subcommand(CHECK, |check| check.mut_args(with_variable))
}

/// Returns the arguments that an error is about, as it shows them.
fn arguments_of(error: &clap::Error) -> Vec<String> {
    use clap::error::{ContextKind, ContextValue};
    let contexts = error
        .context()
        .filter(|(kind, _)| matches!(kind, ContextKind::InvalidArg | ContextKind::PriorArg));
    let shown = contexts.flat_map(|(_, value)| match value {
        ContextValue::String(arg) => vec![arg.clone()],
        ContextValue::Strings(args) => args.clone(),
        _ => Vec::new(),
    });
    shown.collect()
}

/// Returns an error with the names of the variables that have caused it, without the usage of the command line.
fn about(flags: &[Flag], error: &clap::Error) -> clap::Error {
    let variables: Vec<String> = flags.iter().map(|flag| name(&flag.id)).collect();
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let text = text.split("\n\n").next().unwrap_or(text);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let text = format!("{}: {}\n", variables.join(" and "), lines.join(" "));
    clap::Error::raw(error.kind(), text)
}
