//! The program is killed under load, from outside and at each of its steps, and loses no acknowledged message.
//!
//! This proves the promise of the durable store for the whole program, as `durable` proves it for the store alone. Look in
//! `torture` for how a kill is done, and in `torture/breach` for the promises that are checked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use imd::Client;
use imd::proto::Cmd;

use crate::torture::campaign::{Campaign, Report};
use crate::torture::connection::{PipelinedConnection, decode_notify, salted_token};
use crate::torture::daemon::{Daemon, Launch, Started};
use crate::torture::kill::{Kill, MARK};

/// The time limit of every wait. Only a failed test uses it up.
const PATIENCE: Duration = Duration::from_secs(60);

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

fn start(launch: &Launch) -> Daemon {
    match launch.start().unwrap() {
        Started::Ready(daemon) => daemon,
        Started::Ended(end) => panic!("{}", end.stderr),
    }
}

/// Returns how the program is started on a store in this folder, with a config that it writes there.
fn launch_in(dir: &Path) -> Launch {
    let launch = Launch {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_imd")),
        config: dir.join("imd.toml"),
        store: dir.join("store"),
        addr_file: dir.join("addr.json"),
        strace: Vec::new(),
    };
    std::fs::write(&launch.config, "").unwrap();
    launch
}

/// Nobody sends anything after the page, so the program is killed when the mark's own commit is written.
#[tokio::test]
async fn a_read_mark_that_no_message_follows_is_written_soon_and_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let launch = launch_in(dir.path());
    let mut daemon = start(&launch);
    let mut client = Client::connect_to(daemon.addrs.access[0]).await.unwrap();
    client.set_timeout(PATIENCE);
    client.login(1, &salted_token(1)).await.unwrap();
    for text in ["first", "second"] {
        client.send_p2p(1, text).await.unwrap();
    }
    // The file changes with each commit.
    let checkpoint = || std::fs::read(launch.store.join(MARK)).unwrap();
    let before = checkpoint();
    assert_eq!(client.sync(1, 0).await.unwrap().messages.len(), 1);
    let is_written = async {
        while checkpoint() == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, is_written).await.unwrap();
    daemon.kill();
    daemon.end().unwrap();

    let daemon = start(&launch);
    let mut connection = PipelinedConnection::connect(daemon.addrs.access[0])
        .await
        .unwrap();
    assert_eq!(connection.login(1, None).await.unwrap(), 0);
    let (cmd, frame) = connection.frame().await.unwrap();
    assert_eq!(cmd, Some(Cmd::Notify));
    assert_eq!(decode_notify(frame).unwrap(), (1, 2));
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
    use crate::torture::kill::{RENAMES, UNLINKS, check_strace};

    check_strace().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut launch = launch_in(dir.path());
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
