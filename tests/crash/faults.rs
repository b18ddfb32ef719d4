//! Disks that fail or are full, and power cuts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use imd::Client;
use imd::client::ClientError;
use tempfile::TempDir;

use crate::torture::breach::Charge;
use crate::torture::daemon::{Daemon, Launch, Started};
use crate::torture::folder::{Failure, Folder, Setup};
use crate::torture::kill::{Kill, check_strace, journals};
use crate::torture::wire::salted;

const PATIENCE: Duration = Duration::from_secs(60);

/// Creates a folder of the torture in a temporary one.
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

/// Proves that the simulated power cut finds acknowledged messages that were not synced: with `sync = "os"` there are some.
#[test]
#[ignore = "needs strace; .ci/run runs it"]
fn a_power_cut_shows_acknowledgements_before_the_sync() {
    let (mut folder, _dir) = folder("os");
    for _ in 0..5 {
        match folder.live(Kill::PowerCut) {
            Ok(()) => {}
            Err(Failure::Breach(breaches)) => {
                let charges = breaches.iter().map(|breach| breach.charge);
                assert!(
                    charges.clone().any(|charge| charge == Charge::Lost),
                    "{breaches:?}"
                );
                return;
            }
            Err(Failure::Harness(error)) => panic!("{error}"),
        }
    }
    panic!("nothing was lost");
}

/// Nothing is acknowledged after that: what was not synced is cut off, and everything acknowledged is kept.
#[test]
#[ignore = "needs strace; .ci/run runs it"]
fn after_a_sync_that_failed_the_program_says_so_and_ends() {
    let (mut folder, _dir) = folder("always");
    // The refusals before the end.
    folder.checker.tolerate(90001);
    let end = folder
        .live_to_the_end("fdatasync:error=EIO:when=20+")
        .unwrap();
    assert_eq!(end.status.code(), Some(1), "{}", end.stderr);
    assert!(end.stderr.contains("not synced"), "{}", end.stderr);
    assert!(folder.checker.acknowledged() > 0);
    folder.last_look().unwrap();
    folder.live(Kill::AtRandom).unwrap();
    folder.last_look().unwrap();
}

struct Place {
    launch: Launch,
    _dir: TempDir,
}

impl Place {
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
        Place { launch, _dir: dir }
    }

    fn start(&self) -> Daemon {
        match self.launch.start().unwrap() {
            Started::Ready(daemon) => daemon,
            Started::Ended(end) => panic!("{}", end.stderr),
        }
    }
}

async fn user(daemon: &Daemon, uid: i64) -> Client {
    let mut client = Client::connect_to(daemon.places.access[0]).await.unwrap();
    client.set_timeout(PATIENCE);
    client.login(uid, &salted(uid)).await.unwrap();
    client
}

/// All ids in an inbox.
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

fn fills_up(store: &Path) -> Vec<String> {
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
async fn a_full_disk_refuses_sends_alone_and_only_for_as_long_as_it_is_full() {
    let mut place = Place::new();
    place.launch.strace = fills_up(&place.launch.store);
    let mut daemon = place.start();
    let mut ann = user(&daemon, 1).await;
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    // More attempts than the disk has refusals.
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
    place.launch.strace = Vec::new();
    let daemon = place.start();
    let seen = ids(&mut user(&daemon, 2).await).await;
    let mut unique = seen.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), seen.len(), "{seen:?}");
    assert!(acknowledged.iter().all(|id| seen.contains(id)), "{seen:?}");
}
