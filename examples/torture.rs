//! Kills `imd` again and again, under load and at every step of its work, and checks that no acknowledged message is
//! lost.
//!
//! ```sh
//! cargo run --release --example torture -- --kills 10000
//! ```
//!
//! It builds the program, starts it on a folder, lets users send messages, kills it, starts it again, reads everything
//! back and compares; see `tests/crash/torture`. It needs Linux and strace.

#[path = "../tests/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the torture uses a part of it")]
mod support;
#[path = "../tests/crash/torture/mod.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod torture;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;

use torture::campaign::Campaign;
use torture::folder::Counts;
use torture::kill::{Kill, check_strace};

/// How many messages have to be acknowledged in a second for the load to count as one.
const LEAST_RATE: f64 = 1_000.0;

/// Kill imd again and again, and check that nothing acknowledged is ever lost
#[derive(Parser)]
struct Args {
    /// How often
    #[arg(long, default_value_t = 300)]
    kills: u64,
    /// Where chance begins, to repeat a run as far as the machine allows [default: another one each time]
    #[arg(long)]
    seed: Option<u64>,
    /// Where the stores are made; what is in order afterwards is removed [default: where temporary files are]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Kill only here; can be given several times [default: everywhere, in turn]
    #[arg(long, value_name = "STEP", value_parser = step)]
    step: Vec<Kill>,
    /// The program [default: it is built]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

fn step(name: &str) -> Result<Kill, String> {
    let label = |kill: &Kill| kill.to_string().replace(' ', "-");
    let found = Kill::ALL.into_iter().find(|kill| label(kill) == name);
    found.ok_or_else(|| {
        let all: Vec<String> = Kill::ALL.iter().map(label).collect();
        format!("one of {}", all.join(", "))
    })
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<String, String> {
    check_strace()?;
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => build()?,
    };
    let seed = args.seed.unwrap_or_else(rand::random);
    println!("Seed {seed}");
    let base = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let dir = base.join(format!("imd-torture-{seed}"));
    std::fs::create_dir_all(&base)
        .and_then(|()| std::fs::create_dir(&dir))
        .map_err(|error| {
            format!(
                "{}: {error}: remove it, or give another --dir",
                dir.display()
            )
        })?;
    let kinds = if args.step.is_empty() {
        Kill::ALL.to_vec()
    } else {
        args.step.clone()
    };
    let campaign = Campaign {
        binary,
        dir,
        kills: args.kills,
        seed,
        kinds,
    };
    let report = campaign.run().map_err(|failed| failed.to_string())?;
    // The folder is empty unless a store in it is damaged.
    let _ = std::fs::remove_dir(&campaign.dir);
    if let Some(kill) = missed(&report.counts) {
        return Err(format!(
            "{report}\nNever came about by itself: {kill}. Does the program still take this step?"
        ));
    }
    // The rate is only reported: a busy machine breaks no promise. A run of a single step may have no load at all.
    let slow = args.step.is_empty() && report.counts.rate() < LEAST_RATE;
    Ok(match slow {
        true => format!("{report}\nLess than {LEAST_RATE} messages/s: the machine was busy."),
        false => report.to_string(),
    })
}

/// Returns a kind of kill that never came about by itself, although it was tried often enough.
fn missed(counts: &Counts) -> Option<Kill> {
    const SOME: u64 = 10;
    let mut kills = counts.kills.iter();
    let missed = kills.find(|(kill, count)| {
        kill.is_injected() && count.total >= SOME && count.total == count.from_outside
    });
    missed.map(|(kill, _)| *kill)
}

/// Builds the program in the profile of this example: cargo does not build it for an example.
fn build() -> Result<PathBuf, String> {
    let broken = |what: &str| format!("the program can't be built: {what}: give it with --binary");
    let example = std::env::current_exe().map_err(|error| broken(&error.to_string()))?;
    // TARGET/PROFILE/examples/torture
    let profile = example
        .ancestors()
        .nth(2)
        .ok_or_else(|| broken("no folder"))?;
    let name = match profile.file_name().and_then(|name| name.to_str()) {
        Some("debug") => "dev",
        Some(name) => name,
        None => return Err(broken("no profile")),
    };
    let target = profile.parent().unwrap_or_else(|| Path::new("."));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args([
            "build",
            "--locked",
            "--quiet",
            "--bin",
            "imd",
            "--profile",
            name,
        ])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .map_err(|error| broken(&error.to_string()))?;
    if !built.success() {
        return Err(broken(&built.to_string()));
    }
    Ok(profile.join("imd"))
}
