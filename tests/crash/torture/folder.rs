//! One folder, and the processes that use it one after the other: each starts, is read back, is put under load and killed.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::{Builder, Runtime};

use super::breach::{Breach, Charge};
use super::checker::Checker;
use super::daemon::{Daemon, End, Launch, Started};
use super::kill::{self, Kill};
use super::load::{Load, Places, register};
use super::power::Disk;
use super::read_back::read_back;

/// After how many acknowledgements the server is killed from outside, if strace has not killed it.
const BUDGET: std::ops::Range<u32> = 100..1_500;

/// The smallest memtable that the config allows: tables are flushed and compacted all the time.
const SMALL_BUFFER: u32 = 65_536;

/// After how many turns of the clients' runtime the kill follows, at most.
const SPREAD: u64 = 20_000;

/// The name of the store's folder, in that of the torture.
pub const STORE: &str = "store";

/// A folder that is tortured.
pub struct Folder {
    pub root: PathBuf,
    pub checker: Checker,
    pub tally: Tally,
    launch: Launch,
    rng: StdRng,
    lives: u64,
    clients: Runtime,
}

/// Counts of what was done.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Kills of each kind, and how many of them came from outside.
    pub kills: BTreeMap<Kill, (u64, u64)>,
    pub acknowledged: u64,
    /// Entries that were read back.
    pub checked: u64,
    /// How long there was load.
    pub loaded: Duration,
    /// Bytes that were written and lost in power cuts.
    pub cut: u64,
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

/// What a folder is started with.
#[derive(Debug, Clone)]
pub struct Setup {
    pub binary: PathBuf,
    /// `always` or `os`.
    pub sync: &'static str,
    pub has_small_buffer: bool,
}

impl Folder {
    /// Creates a folder at `root`, or takes one that holds a store and nothing else.
    pub fn new(root: PathBuf, setup: &Setup, seed: u64) -> Result<Folder, Failure> {
        fs::create_dir_all(&root)?;
        // strace names files by their real paths.
        let root = root.canonicalize()?;
        let config = root.join("imd.toml");
        let mut text = format!("[store]\nsync = \"{}\"\n", setup.sync);
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
            tally: Tally::default(),
            rng: StdRng::seed_from_u64(seed),
            lives: 0,
            clients: Builder::new_current_thread().enable_all().build()?,
        })
    }

    /// The store's own folder.
    pub fn store(&self) -> &Path {
        &self.launch.store
    }

    /// Runs the server once or more, each time until this kill.
    pub fn live(&mut self, kill: Kill) -> Result<(), Failure> {
        match kill {
            Kill::PowerCut | Kill::TornTail => {
                let before = Disk::of(self.store())?;
                self.life(kill, true)?;
                self.cut(before, kill == Kill::TornTail)
            }
            Kill::PowerCutAfterRestart => {
                let before = Disk::of(self.store())?;
                self.life(kill, true)?;
                let killed = self.followed(before)?;
                let mut before = Disk::of(self.store())?;
                before.keep_unsynced(&killed);
                self.life(kill, false)?;
                self.cut(before, false)
            }
            Kill::InRecovery => self.life(kill, false),
            _ => self.life(kill, true),
        }
    }

    /// Runs the server until this kill, under load or until everything was read.
    fn life(&mut self, kill: Kill, has_load: bool) -> Result<(), Failure> {
        let log = self.log();
        let strace = kill.strace(&self.launch.store, &log, &mut self.rng);
        let is_traced = !strace.is_empty();
        let (end, is_by_hand) = match self.start(strace)? {
            Started::Ready(mut daemon) => {
                let is_by_hand = match self.look(&daemon.places)? {
                    true if has_load => {
                        let budget = self.rng.random_range(BUDGET);
                        self.load(&mut daemon, budget)?
                    }
                    is_alive => is_alive,
                };
                if is_by_hand {
                    daemon.kill();
                }
                (daemon.end()?, is_by_hand)
            }
            Started::Ended(end) if is_traced && end.is_killed() => (end, false),
            Started::Ended(end) => return Err(ended(Charge::NotStarted, &end).into()),
        };
        if !end.is_killed() {
            return Err(ended(Charge::Ended, &end).into());
        }
        let (all, by_hand) = self.tally.kills.entry(kill).or_default();
        *all += 1;
        *by_hand += u64::from(is_by_hand);
        Ok(())
    }

    /// Runs the server under load until it ends by itself because of what strace injects. What was not synced is lost then.
    pub fn live_to_the_end(&mut self, inject: &str) -> Result<End, Failure> {
        let before = Disk::of(self.store())?;
        let mut strace = kill::logged(&self.log());
        strace.push(format!("--inject={inject}"));
        let Started::Ready(mut daemon) = self.start(strace)? else {
            return Err(Failure::Harness("it did not start".into()));
        };
        self.look(&daemon.places)?;
        self.load(&mut daemon, u32::MAX)?;
        let end = daemon.end()?;
        self.cut(before, false)?;
        Ok(end)
    }

    /// Starts the server once more and compares what the last kill left. Then the program checks the folder itself.
    pub fn last_look(&mut self) -> Result<(), Failure> {
        match self.start(Vec::new())? {
            Started::Ready(mut daemon) => {
                self.look(&daemon.places)?;
                daemon.kill();
                daemon.end()?;
            }
            Started::Ended(end) => return Err(ended(Charge::NotStarted, &end).into()),
        }
        let mut check = Command::new(&self.launch.binary);
        let checked = check.args(["store", "check"]).arg(self.store()).output()?;
        if checked.status.success() {
            return Ok(());
        }
        let said = [checked.stdout, checked.stderr].concat();
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        let found = format!("imd store check: {}: {said}", checked.status);
        Err(Breach::new(Charge::Damaged, found).into())
    }

    /// Returns the path of strace's log of this process. The log is kept for the case that something goes wrong.
    fn log(&self) -> PathBuf {
        self.root.join(format!("strace-{}.log", self.lives))
    }

    /// Returns what the disk has after the last process.
    fn followed(&self, mut disk: Disk) -> Result<Disk, Failure> {
        let log = self.root.join(format!("strace-{}.log", self.lives - 1));
        disk.follow(&String::from_utf8_lossy(&fs::read(log)?));
        Ok(disk)
    }

    fn cut(&mut self, before: Disk, is_torn: bool) -> Result<(), Failure> {
        let disk = self.followed(before)?;
        self.tally.cut += disk.unsynced(self.store());
        let torn = is_torn.then_some(&mut self.rng);
        disk.cut(&self.launch.store, torn)?;
        self.checker.forget_marks();
        Ok(())
    }

    /// Starts the server.
    pub fn start(&mut self, strace: Vec<String>) -> io::Result<Started> {
        self.lives += 1;
        self.launch.strace = strace;
        self.launch.start()
    }

    /// Puts the server under load until it ends, or until `budget` messages were acknowledged. Returns whether it has to be
    /// killed then.
    fn load(&mut self, daemon: &mut Daemon, budget: u32) -> Result<bool, Failure> {
        let later = self.rng.random_range(0..SPREAD);
        let begun = Instant::now();
        let before = self.checker.acknowledged();
        let (events, is_by_hand) = self.clients.block_on(async {
            let mut events = register(&daemon.places, &self.checker).await;
            let load = Load::start(&daemon.places, &self.checker, self.lives, &mut self.rng);
            let shared = load.shared.clone();
            let end = load.end();
            tokio::pin!(end);
            let (load, is_by_hand) = tokio::select! {
                events = &mut end => (events, false),
                () = shared.acknowledged(budget) => {
                    // Otherwise every kill would be right after a reply.
                    for _ in 0..later {
                        tokio::task::yield_now().await;
                    }
                    daemon.kill();
                    (end.await, true)
                }
            };
            events.extend(load);
            (events, is_by_hand)
        });
        self.tally.loaded += begun.elapsed();
        self.judge(|checker| checker.take(events))?;
        self.tally.acknowledged += (self.checker.acknowledged() - before) as u64;
        Ok(is_by_hand)
    }

    /// Reads everything back and compares it. Returns false if the server was killed meanwhile.
    fn look(&mut self, places: &Places) -> Result<bool, Failure> {
        let read = self
            .clients
            .block_on(read_back(places, &self.checker, &mut self.rng));
        let is_whole = read.inboxes.is_some();
        if let Some(inboxes) = read.inboxes {
            let pages = inboxes.iter().flat_map(|inbox| &inbox.pages);
            let checked: usize = pages.map(|page| page.entries.len()).sum();
            self.tally.checked += checked as u64;
            self.judge(|checker| checker.compare(&inboxes))?;
        }
        self.judge(|checker| checker.take(read.events))?;
        Ok(is_whole)
    }

    fn judge(&mut self, look: impl FnOnce(&mut Checker) -> Vec<Breach>) -> Result<(), Failure> {
        let breaches = look(&mut self.checker);
        if breaches.is_empty() {
            Ok(())
        } else {
            Err(Failure::Breach(breaches))
        }
    }
}

fn ended(charge: Charge, end: &End) -> Breach {
    let overdue = if end.is_overdue {
        "it did nothing more, and was killed: "
    } else {
        ""
    };
    let found = format!("{overdue}{}: {}", end.status, end.stderr.trim());
    Breach::new(charge, found)
}
