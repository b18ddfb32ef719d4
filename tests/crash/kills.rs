//! The program is killed under load, from outside and at each of its steps, and loses no acknowledged message.
//!
//! This proves the promise of the durable store for the whole program, as `durable` proves it for the store alone. Look in
//! `torture` for how a kill is done, and in `torture/breach` for the promises that are checked.

use std::path::PathBuf;

use crate::torture::campaign::{Campaign, Report};
use crate::torture::kill::Kill;

/// Kills the program `kills` times in a temporary folder, which is kept if a promise was broken.
fn torture(kills: u64, kinds: &[Kill]) -> Report {
    let dir = tempfile::tempdir().unwrap().keep();
    let campaign = Campaign {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_imd")),
        dir: dir.clone(),
        kills,
        seed: 7,
        kinds: kinds.to_vec(),
    };
    let report = campaign.run().unwrap_or_else(|failed| panic!("{failed}"));
    std::fs::remove_dir_all(dir).unwrap();
    report
}

#[test]
fn a_dozen_kills_under_load_lose_nothing() {
    let report = torture(12, &[Kill::AtRandom]);
    assert!(report.counts.acknowledged > 1_000, "{report}");
    assert!(report.counts.entries_read > 1_000, "{report}");
}

/// `examples/torture.rs` does the same with a release build. A debug build is slower, so its threads interleave in other ways.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs strace; .ci/run runs it"]
fn a_kill_at_every_step_loses_nothing() {
    crate::torture::kill::check_strace().unwrap();
    let report = torture(3 * Kill::ALL.len() as u64, &Kill::ALL);
    for kill in Kill::ALL {
        let count = report.counts.kills.get(&kill).copied().unwrap_or_default();
        assert!(count.total >= 3, "{kill}: {report}");
    }
    assert!(report.counts.bytes_lost > 0, "{report}");
}

/// The program creates a new store while it starts, so the start is killed at each of its system calls in turn.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "needs strace; .ci/run runs it"]
fn a_kill_at_any_step_of_the_creation_leaves_a_folder_that_can_be_used() {
    use crate::torture::daemon::{Launch, Started};
    use crate::torture::kill::{RENAMES, UNLINKS, check_strace};

    check_strace().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut launch = Launch {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_imd")),
        config: dir.path().join("imd.toml"),
        store: dir.path().join("store"),
        addr_file: dir.path().join("addr.json"),
        strace: Vec::new(),
    };
    std::fs::write(&launch.config, "").unwrap();
    let calls = [
        "?mkdir,mkdirat",
        "openat",
        "flock",
        "write",
        "pwrite64",
        "ftruncate",
        "fsync",
        "fdatasync",
        RENAMES,
        UNLINKS,
    ];
    let mut kills = 0;
    for call in calls {
        for nth in 1.. {
            launch.strace = vec![
                format!("--trace={call}"),
                format!("--inject={call}:signal=SIGKILL:when={nth}"),
                "--output=/dev/null".to_owned(),
            ];
            let is_ready = match launch.start().unwrap() {
                Started::Ready(mut daemon) => {
                    daemon.kill();
                    true
                }
                Started::Ended(end) => {
                    assert!(end.is_killed(), "{call} {nth}: {}", end.stderr);
                    kills += 1;
                    false
                }
            };
            launch.strace = Vec::new();
            match launch.start().unwrap() {
                Started::Ready(mut daemon) => daemon.kill(),
                Started::Ended(end) => panic!("after {call} {nth}: {}", end.stderr),
            }
            let _ = std::fs::remove_dir_all(&launch.store);
            if is_ready {
                break;
            }
        }
    }
    assert!(kills > 50, "{kills}");
}
