//! The steps at which a server is killed, and how strace kills it there.
//!
//! strace sends the signal when a thread enters its n-th call of a kind, before the call does anything. `--seccomp-bpf`
//! is not used for that, because strace 6.1 loses the signals with it: `strace -f --seccomp-bpf
//! -e inject=write:signal=SIGKILL echo hi` says hi.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// A step of the program at which it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kill {
    /// Under load, at a random time.
    AtRandom,
    /// Before a piece of a commit is written to the journal. The pieces before it are written.
    InAppend,
    /// When a commit is written, and before it is synced.
    BeforeSync,
    /// When a commit is synced, and before the mark says so.
    AfterSync,
    /// When a commit is complete, and before its replies are sent.
    BeforeAnswer,
    /// Right after a reply.
    AfterAnswer,
    /// While the server starts on the folder that another kill left.
    InRecovery,
    /// While tables are flushed, compacted and removed.
    InCompaction,
    /// While the engine begins a new journal because the old one is full.
    InRotation,
    /// The power fails: everything that was not synced is lost.
    PowerCut,
    /// The power fails, and a part of what was not synced is kept.
    TornTail,
    /// The power fails after a start on the folder that a kill left, before anything new was synced.
    PowerCutAfterRestart,
}

/// The calls that rename files. Those with a question mark do not exist on every kind of machine.
pub const RENAMES: &str = "?rename,renameat,renameat2";
/// The calls that remove names.
pub const UNLINKS: &str = "?unlink,unlinkat";

/// The name of the file that holds the number of the newest synced commit.
pub const MARK: &str = "mark";

impl Kill {
    /// Every kind of kill, in the order in which a campaign takes turns.
    pub const ALL: [Kill; 12] = [
        Kill::AtRandom,
        Kill::InAppend,
        Kill::BeforeSync,
        Kill::AfterSync,
        Kill::BeforeAnswer,
        Kill::AfterAnswer,
        Kill::InRecovery,
        Kill::InCompaction,
        Kill::InRotation,
        Kill::PowerCut,
        Kill::TornTail,
        Kill::PowerCutAfterRestart,
    ];

    /// Returns whether strace kills the program at this step. If not, the torture kills it from outside.
    pub fn is_injected(self) -> bool {
        match self {
            Kill::AtRandom | Kill::PowerCut | Kill::TornTail | Kill::PowerCutAfterRestart => false,
            Kill::InAppend
            | Kill::BeforeSync
            | Kill::AfterSync
            | Kill::BeforeAnswer
            | Kill::AfterAnswer
            | Kill::InRecovery
            | Kill::InCompaction
            | Kill::InRotation => true,
        }
    }

    /// Returns the arguments of strace for this kill. They are empty if the program is killed from outside and no log is needed.
    pub fn strace(self, store: &Path, log: &Path, rng: &mut StdRng) -> Vec<String> {
        let one_of = |calls: &[(&'static str, u32)], rng: &mut StdRng| {
            let (call, max) = calls.choose(rng).copied().unwrap_or(("write", 1));
            (call, rng.random_range(1..=max))
        };
        // strace counts the calls of each thread separately.
        let (call, nth) = match self {
            Kill::AtRandom => return Vec::new(),
            Kill::PowerCut | Kill::TornTail | Kill::PowerCutAfterRestart => {
                let mut args = logged(log);
                // With a slow disk more happens between a write and its sync.
                if rng.random_ratio(1, 3) {
                    args.push("--inject=fdatasync:delay_enter=5000".to_owned());
                }
                return args;
            }
            Kill::InAppend => ("write", rng.random_range(1..=40)),
            Kill::BeforeSync => ("fdatasync", rng.random_range(1..=25)),
            // The next call after the sync writes the mark.
            Kill::AfterSync => ("pwrite64", rng.random_range(1..=25)),
            Kill::BeforeAnswer => ("sendto", rng.random_range(1..=150)),
            Kill::AfterAnswer => ("recvfrom", rng.random_range(1..=200)),
            Kill::InRecovery => one_of(
                &[
                    ("openat", 50),
                    ("read", 80),
                    ("lseek", 50),
                    ("statx", 25),
                    ("getdents64", 15),
                    ("write", 3),
                    ("fsync", 2),
                    ("fdatasync", 1),
                    ("ftruncate", 1),
                    (UNLINKS, 2),
                    (RENAMES, 1),
                ],
                rng,
            ),
            Kill::InRotation => one_of(
                &[
                    ("openat", 2),
                    ("ftruncate", 1),
                    ("fsync", 1),
                    ("write", 3),
                    ("fdatasync", 3),
                ],
                rng,
            ),
            Kill::InCompaction => one_of(&[("fsync", 20), (RENAMES, 5), (UNLINKS, 6)], rng),
        };
        let mut args = vec![
            format!("--trace={call}"),
            format!("--inject={call}:signal=SIGKILL:when={nth}"),
            "--output=/dev/null".to_owned(),
        ];
        // The calls on other files are not counted: threads also write to sockets, and to wake each other.
        let paths = match self {
            Kill::InAppend | Kill::BeforeSync => journals(store),
            Kill::AfterSync => vec![store.join(MARK)],
            Kill::InRotation => vec![journal(store, 1)],
            _ => Vec::new(),
        };
        args.extend(
            paths
                .iter()
                .map(|path| format!("--trace-path={}", path.display())),
        );
        args
    }
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kill::AtRandom => "at random",
            Kill::InAppend => "in an append",
            Kill::BeforeSync => "before a sync",
            Kill::AfterSync => "after a sync",
            Kill::BeforeAnswer => "before an answer",
            Kill::AfterAnswer => "after an answer",
            Kill::InRecovery => "in recovery",
            Kill::InCompaction => "in compaction",
            Kill::InRotation => "in a change of journals",
            Kill::PowerCut => "power cut",
            Kill::TornTail => "power cut with a torn tail",
            Kill::PowerCutAfterRestart => "power cut after a restart",
        })
    }
}

/// Returns the arguments with which strace logs every call that changes files. Nothing is injected, so that
/// `--seccomp-bpf` can be used.
pub fn logged(log: &Path) -> Vec<String> {
    let calls = "openat,lseek,write,writev,pwrite64,fdatasync,fsync,ftruncate";
    let calls = format!("{calls},{RENAMES},{UNLINKS}");
    vec![
        "--seccomp-bpf".to_owned(),
        "--decode-fds=path".to_owned(),
        "--string-limit=0".to_owned(),
        format!("--trace={calls}"),
        "--signal=none".to_owned(),
        format!("--output={}", log.display()),
    ]
}

fn journal(store: &Path, number: u32) -> PathBuf {
    store.join("engine").join(format!("{number}.jnl"))
}

/// Returns the paths of the journals of a store, and of the next ones that the engine may begin.
pub fn journals(store: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(store.join("engine"))
        .into_iter()
        .flatten()
        .flatten();
    let number = |name: &str| name.strip_suffix(".jnl")?.parse::<u32>().ok();
    let newest = files
        .filter_map(|file| number(file.file_name().to_str()?))
        .max();
    let numbers = 0..=newest.unwrap_or(0) + 8;
    numbers.map(|number| journal(store, number)).collect()
}

/// Checks that strace works here. The error tells what to do.
pub fn check_strace() -> Result<(), String> {
    let tried = Command::new("strace")
        .args([
            "-D",
            "-f",
            "--trace=execve",
            "--inject=execve:signal=SIGKILL:when=2",
        ])
        .args(["--output=/dev/null", "true"])
        .stdin(Stdio::null())
        .output();
    match tried {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => Err(format!(
            "strace can't trace here: {}: allow ptrace (in a container: --cap-add SYS_PTRACE; see \
             /proc/sys/kernel/yama/ptrace_scope)",
            String::from_utf8_lossy(&done.stderr).trim()
        )),
        Err(error) => Err(format!(
            "strace can't be run: {error}: install it (apt-get install strace)"
        )),
    }
}
