//! One folder of a store, and the runs of the program on it. In each run the program is started, its inboxes are read back
//! and compared, and it is put under load until it is killed.
//!
//! Serves the campaign and the tests of failing disks. The checker decides whether a promise is broken, except for the two
//! that are checked here: the program starts on every folder that a kill leaves, and does not end by itself.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::{Builder, Runtime};

use super::breach::{Breach, BreachKind};
use super::checker::Checker;
use super::daemon::{Daemon, End, Launch, Started};
use super::kill::{self, Kill};
use super::load::{Load, ServerAddrs, register};
use super::power::Disk;
use super::read_back::read_back;

/// How many messages are acknowledged before the server is killed from outside, if strace has not killed it by then.
const ACKNOWLEDGED: std::ops::Range<u32> = 100..1_500;

/// The smallest memtable that the config allows, so that tables are written and compacted all the time.
const SMALL_BUFFER: u32 = 65_536;

/// How many turns of the clients' runtime pass before a kill from outside, at most.
const MAX_DELAY: u64 = 20_000;

/// The name of the store's folder, in the folder of the torture.
pub const STORE: &str = "store";

/// A folder that is tortured.
pub struct Folder {
    /// Holds the store, the config, and the logs of strace.
    pub root: PathBuf,
    pub checker: Checker,
    pub counts: Counts,
    launch: Launch,
    rng: StdRng,
    /// How many times the program was started.
    runs: u64,
    /// The runtime of all clients. It has one thread, so that a seed decides as much as possible.
    clients: Runtime,
}

/// Counts what was done in one folder or in a whole campaign.
#[derive(Debug, Default, Clone)]
pub struct Counts {
    pub kills: BTreeMap<Kill, KillCount>,
    /// Messages and acks that were acknowledged.
    pub acknowledged: u64,
    /// Entries of inboxes that were read back and compared.
    pub entries_read: u64,
    /// How long servers were under load, all together.
    pub load_time: Duration,
    /// Bytes that were written and were lost in power cuts.
    pub bytes_lost: u64,
}

/// Counts the kills of one kind.
#[derive(Debug, Default, Clone, Copy)]
pub struct KillCount {
    pub total: u64,
    /// The kills by this process, because the step at which strace kills was not reached.
    pub from_outside: u64,
}

/// Why a torture ends early.
#[derive(Debug)]
pub enum Failure {
    /// A promise was broken.
    Breach(Vec<Breach>),
    /// The harness itself can't go on.
    Harness(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Harness(error.to_string())
    }
}

impl From<Breach> for Failure {
    fn from(breach: Breach) -> Self {
        Failure::Breach(vec![breach])
    }
}

/// How the program is run on a folder.
#[derive(Debug, Clone)]
pub struct Setup {
    pub binary: PathBuf,
    /// The value of `store.sync`: `always` or `os`.
    pub sync: &'static str,
    /// Whether memtables have the smallest size, and not the default size.
    pub has_small_buffer: bool,
}

impl Folder {
    /// Creates a folder at `root`. If there is one already, it may hold a store and nothing else.
    pub fn new(root: PathBuf, setup: &Setup, seed: u64) -> Result<Folder, Failure> {
        fs::create_dir_all(&root)?;
        // strace names files by their real paths.
        let root = root.canonicalize()?;
        let config = root.join("imd.toml");
        // The notify of a login tells the read mark, which the checker needs before the first page.
        let mut text = format!(
            "session.first_notify = \"0s\"\n[store]\nsync = \"{}\"\n",
            setup.sync
        );
        if setup.has_small_buffer {
            text += &format!("buffer = {SMALL_BUFFER}\n");
        }
        fs::write(&config, text)?;
        Ok(Folder {
            launch: Launch {
                binary: setup.binary.clone(),
                config,
                store: root.join(STORE),
                addr_file: root.join("addr.json"),
                strace: Vec::new(),
            },
            root,
            checker: Checker::default(),
            counts: Counts::default(),
            rng: StdRng::seed_from_u64(seed),
            runs: 0,
            clients: Builder::new_current_thread().enable_all().build()?,
        })
    }

    /// The store's own folder.
    pub fn store(&self) -> &Path {
        &self.launch.store
    }

    /// Runs the program until it is killed in this way. Some kinds of kills take two runs.
    pub fn run_until(&mut self, kill: Kill) -> Result<(), Failure> {
        match kill {
            Kill::PowerCut | Kill::TornTail => {
                let before = Disk::of(self.store())?;
                self.run_once(kill, true)?;
                self.cut_power(before, kill == Kill::TornTail)
            }
            Kill::PowerCutAfterRestart => {
                let before = Disk::of(self.store())?;
                self.run_once(kill, true)?;
                let killed = self.disk_after_run(before)?;
                let mut before = Disk::of(self.store())?;
                before.keep_unsynced(&killed);
                self.run_once(kill, false)?;
                self.cut_power(before, false)
            }
            Kill::InRecovery => self.run_once(kill, false),
            _ => self.run_once(kill, true),
        }
    }

    /// Runs the program until this kill. Without load it is killed from outside when everything was read, at the latest.
    fn run_once(&mut self, kill: Kill, has_load: bool) -> Result<(), Failure> {
        let log = self.strace_log();
        let strace = kill.strace(&self.launch.store, &log, &mut self.rng);
        let is_traced = !strace.is_empty();
        let (end, is_from_outside) = match self.start(strace)? {
            Started::Ready(mut daemon) => {
                let is_from_outside = match self.read_and_compare(&daemon.addrs)? {
                    true if has_load => {
                        let acknowledged = self.rng.random_range(ACKNOWLEDGED);
                        self.load(&mut daemon, acknowledged)?
                    }
                    is_alive => is_alive,
                };
                if is_from_outside {
                    daemon.kill();
                }
                (daemon.end()?, is_from_outside)
            }
            Started::Ended(end) if is_traced && end.is_killed() => (end, false),
            Started::Ended(end) => return Err(ended(BreachKind::StartFailed, &end).into()),
        };
        if !end.is_killed() {
            return Err(ended(BreachKind::ProgramEnded, &end).into());
        }
        let count = self.counts.kills.entry(kill).or_default();
        count.total += 1;
        count.from_outside += u64::from(is_from_outside);
        Ok(())
    }

    /// Runs the program under load until it ends by itself, because of an error that strace injects. Then the power fails:
    /// everything that was not synced is lost.
    pub fn run_until_it_ends(&mut self, inject: &str) -> Result<End, Failure> {
        let before = Disk::of(self.store())?;
        let mut strace = kill::logged(&self.strace_log());
        strace.push(format!("--inject={inject}"));
        let Started::Ready(mut daemon) = self.start(strace)? else {
            return Err(Failure::Harness("the program did not start".into()));
        };
        self.read_and_compare(&daemon.addrs)?;
        self.load(&mut daemon, u32::MAX)?;
        let end = daemon.end()?;
        self.cut_power(before, false)?;
        Ok(end)
    }

    /// Starts the program once more, and compares everything that the last kill has left. Then runs `imd store check` on the
    /// folder.
    pub fn final_check(&mut self) -> Result<(), Failure> {
        match self.start(Vec::new())? {
            Started::Ready(mut daemon) => {
                self.read_and_compare(&daemon.addrs)?;
                daemon.kill();
                daemon.end()?;
            }
            Started::Ended(end) => return Err(ended(BreachKind::StartFailed, &end).into()),
        }
        let mut check = Command::new(&self.launch.binary);
        let checked = check.args(["store", "check"]).arg(self.store()).output()?;
        if checked.status.success() {
            return Ok(());
        }
        let output = [checked.stdout, checked.stderr].concat();
        let output = String::from_utf8_lossy(&output).trim().to_owned();
        let found = format!("imd store check: {}: {output}", checked.status);
        Err(Breach::new(BreachKind::Damaged, found).into())
    }

    /// Returns the path of strace's log of the next run. The log of each run is kept, to explain a broken promise.
    fn strace_log(&self) -> PathBuf {
        self.root.join(format!("strace-{}.log", self.runs))
    }

    /// Returns what had reached the disk when the last run ended, given what was on it before that run.
    fn disk_after_run(&self, mut disk: Disk) -> Result<Disk, Failure> {
        let log = self.root.join(format!("strace-{}.log", self.runs - 1));
        disk.follow(&String::from_utf8_lossy(&fs::read(log)?));
        Ok(disk)
    }

    /// Takes the folder back to what had reached the disk, given what was on it before the last run.
    fn cut_power(&mut self, before: Disk, is_torn: bool) -> Result<(), Failure> {
        let disk = self.disk_after_run(before)?;
        self.counts.bytes_lost += disk.unsynced(self.store());
        let torn = is_torn.then_some(&mut self.rng);
        disk.cut(&self.launch.store, torn)?;
        Ok(())
    }

    /// Starts the program, with these arguments of strace.
    pub fn start(&mut self, strace: Vec<String>) -> io::Result<Started> {
        self.runs += 1;
        self.launch.strace = strace;
        self.launch.start()
    }

    /// Puts the server under load until strace has killed it, or else kills it when `acknowledged` messages were acknowledged.
    /// Returns whether this has killed it.
    fn load(&mut self, daemon: &mut Daemon, acknowledged: u32) -> Result<bool, Failure> {
        let delay = self.rng.random_range(0..MAX_DELAY);
        let started = Instant::now();
        let before = self.checker.acknowledged();
        let (events, is_from_outside) = self.clients.block_on(async {
            let mut events = register(&daemon.addrs, &self.checker).await;
            let load = Load::start(&daemon.addrs, &self.checker, self.runs, &mut self.rng);
            let state = load.state.clone();
            let end = load.finish();
            tokio::pin!(end);
            let (load, is_from_outside) = tokio::select! {
                events = &mut end => (events, false),
                () = state.wait_for_acknowledged(acknowledged) => {
                    // Without a delay every kill would come right after a reply.
                    for _ in 0..delay {
                        tokio::task::yield_now().await;
                    }
                    daemon.kill();
                    (end.await, true)
                }
            };
            events.extend(load);
            (events, is_from_outside)
        });
        self.counts.load_time += started.elapsed();
        self.check(|checker| checker.take(events))?;
        self.counts.acknowledged += (self.checker.acknowledged() - before) as u64;
        Ok(is_from_outside)
    }

    /// Reads everything back and compares it. Returns whether the server is still running: strace may have killed it.
    fn read_and_compare(&mut self, addrs: &ServerAddrs) -> Result<bool, Failure> {
        let read = self
            .clients
            .block_on(read_back(addrs, &self.checker, &mut self.rng));
        let is_alive = read.inboxes.is_some();
        if let Some(inboxes) = read.inboxes {
            let pages = inboxes.iter().flat_map(|inbox| &inbox.pages);
            let entries: usize = pages.map(|page| page.entries.len()).sum();
            self.counts.entries_read += entries as u64;
            self.check(|checker| checker.compare(&inboxes))?;
        }
        self.check(|checker| checker.take(read.events))?;
        Ok(is_alive)
    }

    fn check(&mut self, check: impl FnOnce(&mut Checker) -> Vec<Breach>) -> Result<(), Failure> {
        let breaches = check(&mut self.checker);
        if breaches.is_empty() {
            Ok(())
        } else {
            Err(Failure::Breach(breaches))
        }
    }
}

/// Returns the breach by a program that has ended before it was killed.
fn ended(kind: BreachKind, end: &End) -> Breach {
    let overdue = if end.is_overdue {
        "it hung, and was killed: "
    } else {
        ""
    };
    let found = format!("{overdue}{}: {}", end.status, end.stderr.trim());
    Breach::new(kind, found)
}
