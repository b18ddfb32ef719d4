//! Counts what one message costs a server: system calls, how often a thread sleeps, instructions, allocations.
//!
//! Serves the command `budget`. The messages are those of [`lockstep`](crate::lockstep), so that the counts hardly vary. A
//! tool counts everything that a process does. So each count is the difference between two runs, of which one exchanges more
//! messages.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::Fault;
use crate::kind::Kind;
use crate::lockstep::Pair;
use crate::peers::is_installed;
use crate::server::{Server, Setup, executable};

/// Exchanges before anything is counted, in which the server makes what it makes only once.
const FIRST: usize = 200;
/// How many exchanges are counted; and how many under a tool that slows them down.
const COUNTED: usize = 1_000;
const COUNTED_SLOWLY: usize = 300;

/// Counts by name.
type Counts = BTreeMap<String, f64>;

/// Prints a table for one message at a time, and a table for 16.
pub async fn print() -> Result<(), Fault> {
    let mut counted = vec![
        ("mock", Kind::Mock, false),
        ("imd", Kind::Imd, false),
        ("durable mock", Kind::Mock, true),
        ("durable imd", Kind::Imd, true),
    ];
    if executable(Kind::WithoutLab)?.is_file() {
        counted.insert(2, ("imd without the lab", Kind::WithoutLab, false));
    }
    for messages in [1, 16] {
        let mut columns = Vec::new();
        for &(_, kind, is_durable) in &counted {
            columns.push(count(Setup::new(kind, is_durable), messages).await?);
        }
        let heads: Vec<&str> = counted.iter().map(|(head, ..)| *head).collect();
        let heads = heads.join(" | ");
        println!("\n| per message, {messages} at a time | {heads} |");
        println!("|---|{}", "---|".repeat(counted.len()));
        let mut names: Vec<&String> = columns.iter().flat_map(BTreeMap::keys).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let cells = columns.iter().map(|counts| cell(counts.get(name)));
            println!("| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
        }
    }
    Ok(())
}

fn cell(count: Option<&f64>) -> String {
    match count {
        Some(count) if *count >= 100.0 => format!("{count:.0}"),
        Some(count) => format!("{count:.2}"),
        None => String::new(),
    }
}

async fn count(setup: Setup, messages: usize) -> Result<Counts, Fault> {
    let mut counts = sleeps(setup, messages).await?;
    if is_installed("strace") {
        let tool = ["strace", "-f", "-c", "-o"];
        counts.extend(difference(setup, messages, COUNTED, &tool, calls).await?);
    }
    if is_installed("valgrind") {
        let tool = [
            "valgrind",
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
        ];
        let tool = [&tool[..], &["--log-file"]].concat();
        counts.extend(difference(setup, messages, COUNTED_SLOWLY, &tool, instructions).await?);
        let tool = [
            "valgrind",
            "--tool=dhat",
            "--dhat-out-file=/dev/null",
            "--log-file",
        ];
        counts.extend(difference(setup, messages, COUNTED_SLOWLY, &tool, allocations).await?);
    }
    Ok(counts)
}

/// Returns how often a thread of the server sleeps for each message.
async fn sleeps(setup: Setup, messages: usize) -> Result<Counts, Fault> {
    let server = Server::start(setup)?;
    let mut pair = Pair::log_in(&server).await?;
    pair.exchange(messages, FIRST).await?;
    let before = server.sleeps();
    pair.exchange(messages, COUNTED).await?;
    let sleeps = (server.sleeps() - before) as f64 / (COUNTED * messages) as f64;
    Ok(Counts::from([("2. sleeps of a thread".to_owned(), sleeps)]))
}

/// Returns what `tool` counts for each message: the difference between a run with and one without `counted` more
/// exchanges.
async fn difference(
    setup: Setup,
    messages: usize,
    counted: usize,
    tool: &[&str],
    read: fn(&str) -> Counts,
) -> Result<Counts, Fault> {
    let folder = TempDir::new()?;
    let few = run(setup, messages, FIRST, tool, &folder.path().join("few")).await?;
    let many = FIRST + counted;
    let many = run(setup, messages, many, tool, &folder.path().join("many")).await?;
    let few = read(&few);
    let each = read(&many).into_iter().map(|(name, count)| {
        let before = few.get(&name).copied().unwrap_or_default();
        (name, (count - before) / (counted * messages) as f64)
    });
    // Leaves out what occurs now and then, and is not caused by these messages.
    Ok(each.filter(|(_, count)| *count >= 0.005).collect())
}

/// Runs a server under `tool`, and returns its report.
async fn run(
    setup: Setup,
    messages: usize,
    times: usize,
    tool: &[&str],
    report: &Path,
) -> Result<String, Fault> {
    let mut under: Vec<String> = tool.iter().map(|&arg| arg.to_owned()).collect();
    let report_arg = report.display().to_string();
    match under.last_mut() {
        Some(last) if last.starts_with("--") => *last = format!("{last}={report_arg}"),
        _ => under.push(report_arg),
    }
    let server = Server::start_under(&under, setup)?;
    let mut pair = Pair::log_in(&server).await?;
    pair.exchange(messages, times).await?;
    server.end()?;
    Ok(fs::read_to_string(report)?)
}

/// Reads the system calls in the report of `strace -c`.
fn calls(report: &str) -> Counts {
    let mut counts = Counts::new();
    for line in report.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        // The columns are: percent of the time, seconds, time of each call, calls, errors if there are any, and the
        // name. The last line has no time of each call.
        let (Some(&name), Some(Ok(calls))) = (words.last(), words.get(3).map(|n| n.parse())) else {
            continue;
        };
        if name == "total" {
            counts.insert("1. system calls".to_owned(), calls);
        } else {
            counts.insert(format!("1. {name}"), calls);
        }
    }
    counts
}

/// Reads the instructions in the report of callgrind.
fn instructions(report: &str) -> Counts {
    let collected = report
        .lines()
        .find_map(|line| line.split_once("Collected :"));
    let count = collected.and_then(|(_, count)| number(count));
    let name = "3. instructions".to_owned();
    count
        .into_iter()
        .map(|count| (name.clone(), count))
        .collect()
}

/// Reads the allocations in the report of DHAT: `Total: 1,024 bytes in 2 blocks`.
fn allocations(report: &str) -> Counts {
    let total = report.lines().find_map(|line| line.split_once("Total:"));
    let Some((bytes, blocks)) = total.and_then(|(_, total)| total.split_once("bytes in")) else {
        return Counts::new();
    };
    let counts = [("4. allocations", blocks), ("5. bytes allocated", bytes)];
    let read = |(name, count): (&str, &str)| Some((name.to_owned(), number(count)?));
    counts.into_iter().filter_map(read).collect()
}

/// Returns the first number in a text, with or without commas.
fn number(text: &str) -> Option<f64> {
    text.split_whitespace()
        .next()?
        .replace(',', "")
        .parse()
        .ok()
}
