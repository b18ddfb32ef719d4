//! Disks that fail or are full, and power cuts: the program refuses what it can't store, and loses nothing that it has
//! acknowledged.
//!
//! strace injects the errors of the disk, so all of these tests are ignored where it may be missing; `.ci/run` runs them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use imd::Client;
use imd::client::ClientError;
use tempfile::TempDir;

use crate::torture::breach::{Breach, BreachKind};
use crate::torture::connection::salted_token;
use crate::torture::daemon::{Daemon, Launch, Started};
use crate::torture::folder::{Failure, Folder, Setup};
use crate::torture::kill::{Kill, check_strace, journals};

/// How long a request may take, at most. Only a failing test waits that long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Creates a folder to be tortured, with this value of `store.sync`, in a temporary folder.
fn folder(sync: &'static str) -> (Folder, TempDir) {
    check_strace().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup {
        binary: PathBuf::from(env!("CARGO_BIN_EXE_imd")),
        sync,
        has_small_buffer: true,
    };
    let root = dir.path().join("folder");
    (Folder::new(root, &setup, 5).unwrap(), dir)
}

/// Proves that a simulated power cut finds messages that were acknowledged and not synced: with `sync = "os"` there are some.
#[test]
#[ignore = "needs strace; .ci/run runs it"]
fn a_power_cut_shows_acknowledgements_before_the_sync() {
    let (mut folder, _dir) = folder("os");
    for _ in 0..5 {
        match folder.run_until(Kill::PowerCut) {
            Ok(()) => {}
            Err(Failure::Breach(breaches)) => {
                let is_lost = |breach: &Breach| breach.kind == BreachKind::Lost;
                assert!(breaches.iter().any(is_lost), "{breaches:?}");
                return;
            }
            Err(Failure::Harness(error)) => panic!("{error}"),
        }
    }
    panic!("nothing was lost");
}

/// After the failed sync nothing is acknowledged: everything that was not synced is cut off, and no acknowledged message is
/// lost by that.
#[test]
#[ignore = "needs strace; .ci/run runs it"]
fn after_a_failed_sync_the_program_reports_it_and_ends() {
    let (mut folder, _dir) = folder("always");
    // Requests are refused between the failed sync and the end.
    folder.checker.tolerate(90001);
    let end = folder
        .run_until_it_ends("fdatasync:error=EIO:when=20+")
        .unwrap();
    assert_eq!(end.status.code(), Some(1), "{}", end.stderr);
    assert!(end.stderr.contains("not synced"), "{}", end.stderr);
    assert!(folder.checker.acknowledged() > 0);
    folder.final_check().unwrap();
    folder.run_until(Kill::AtRandom).unwrap();
    folder.final_check().unwrap();
}

/// A program on a new store, which strace can make fail.
struct Program {
    launch: Launch,
    _dir: TempDir,
}

impl Program {
    fn new() -> Self {
        check_strace().unwrap();
        let dir = tempfile::tempdir().unwrap();
        // strace names files by their real paths.
        let root = dir.path().canonicalize().unwrap();
        let config = root.join("imd.toml");
        std::fs::write(&config, "").unwrap();
        let launch = Launch {
            binary: PathBuf::from(env!("CARGO_BIN_EXE_imd")),
            config,
            store: root.join("store"),
            addr_file: root.join("addr.json"),
            strace: Vec::new(),
        };
        Program { launch, _dir: dir }
    }

    fn start(&self) -> Daemon {
        match self.launch.start().unwrap() {
            Started::Ready(daemon) => daemon,
            Started::Ended(end) => panic!("{}", end.stderr),
        }
    }
}

async fn user(daemon: &Daemon, uid: i64) -> Client {
    let mut client = Client::connect_to(daemon.addrs.access[0]).await.unwrap();
    client.set_timeout(PATIENCE);
    client.login(uid, &salted_token(uid)).await.unwrap();
    client
}

/// Returns the message ids in the inbox of this client's user.
async fn ids(client: &mut Client) -> Vec<String> {
    let mut ids = Vec::new();
    let mut after = 0;
    loop {
        let page = client.sync(after, 0).await.unwrap();
        ids.extend(page.messages.into_iter().map(|message| message.msg_id));
        after = page.current;
        if after >= page.total {
            return ids;
        }
    }
}

/// Returns the arguments of strace that make the disk full for some writes to the journals, and then free again.
fn full_disk(store: &Path) -> Vec<String> {
    let mut strace = vec![
        "--seccomp-bpf".to_owned(),
        "--trace=write".to_owned(),
        "--inject=write:error=ENOSPC:when=20..40".to_owned(),
        "--output=/dev/null".to_owned(),
    ];
    let paths = journals(store);
    strace.extend(
        paths
            .iter()
            .map(|path| format!("--trace-path={}", path.display())),
    );
    strace
}

#[tokio::test]
#[ignore = "needs strace; .ci/run runs it"]
async fn a_full_disk_refuses_sends_only_and_only_while_it_is_full() {
    let mut program = Program::new();
    program.launch.strace = full_disk(&program.launch.store);
    let mut daemon = program.start();
    let mut ann = user(&daemon, 1).await;
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    // More attempts than the disk refuses.
    for number in 0..200 {
        let id = format!("m{number}");
        match ann.send_p2p_as(2, &id, "text").await {
            Ok(_) => acknowledged.push(id),
            Err(ClientError::Refused { code: 90001, .. }) => {
                refused += 1;
                let mut bob = user(&daemon, 2).await;
                let seen = ids(&mut bob).await;
                assert!(acknowledged.iter().all(|id| seen.contains(id)), "{seen:?}");
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 0);
    assert_eq!(acknowledged.last().map(String::as_str), Some("m199"));

    daemon.kill();
    daemon.end().unwrap();
    program.launch.strace = Vec::new();
    let daemon = program.start();
    let seen = ids(&mut user(&daemon, 2).await).await;
    let mut unique = seen.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), seen.len(), "{seen:?}");
    assert!(acknowledged.iter().all(|id| seen.contains(id)), "{seen:?}");
}
