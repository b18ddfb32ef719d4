//! A campaign: many kills in several folders side by side, with all kinds of kills in turn.
//!
//! Serves the tests of kills and `examples/torture.rs`. It ends with the first broken promise, and then leaves the folder as
//! it is, with the log of strace beside it.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::folder::{Counts, Failure, Folder, Setup};
use super::full_journal::FullJournal;
use super::kill::Kill;

/// The number of kills in one folder. Each run reads back everything that the runs before it have stored, so many kills in
/// one folder are slow.
const KILLS_PER_FOLDER: u64 = 22;

/// The number of folders that are tortured at the same time.
const SIDE_BY_SIDE: usize = 2;

/// What a campaign is to do.
#[derive(Debug, Clone)]
pub struct Campaign {
    pub binary: PathBuf,
    /// The folder in which the folders of the stores are made.
    pub dir: PathBuf,
    /// How many times the program is killed.
    pub kills: u64,
    /// The seed of everything that is random. It repeats a campaign as far as the machine allows.
    pub seed: u64,
    /// The kinds of kills, which take turns.
    pub kinds: Vec<Kill>,
}

/// The result of a campaign in which no promise was broken.
pub struct Report {
    pub counts: Counts,
    pub duration: Duration,
}

/// The result of a campaign that was ended by a broken promise or by an error of the harness.
pub struct Failed {
    pub failure: Failure,
    pub seed: u64,
    /// The folder in which the promise was broken. It is not removed.
    pub folder: PathBuf,
    /// The kill that the run was to end with, if one was decided.
    pub kill: Option<Kill>,
}

impl Campaign {
    /// Runs the campaign to its end, or until a promise is broken.
    pub fn run(&self) -> Result<Report, Box<Failed>> {
        let started = Instant::now();
        let full_journal = match self.kinds.contains(&Kill::InRotation) {
            true => {
                let root = self.dir.join("full");
                let made = FullJournal::make(root.clone(), &self.setup(0));
                Some(made.map_err(|failure| self.failed(failure, root, None))?)
            }
            false => None,
        };
        let next = AtomicU64::new(0);
        let counts = Mutex::new(Counts::default());
        let failed = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..SIDE_BY_SIDE {
                scope.spawn(|| {
                    while failed.lock().is_none() {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index * KILLS_PER_FOLDER >= self.kills {
                            return;
                        }
                        let is_over = || failed.lock().is_some();
                        match self.torture_folder(index, full_journal.as_ref(), is_over) {
                            Ok(done) => counts.lock().add(&done),
                            Err(first) => drop(failed.lock().get_or_insert(first)),
                        }
                    }
                });
            }
        });
        if let Some(failed) = failed.into_inner() {
            return Err(failed);
        }
        if let Some(full_journal) = full_journal {
            full_journal.remove();
        }
        Ok(Report {
            counts: counts.into_inner(),
            duration: started.elapsed(),
        })
    }

    fn setup(&self, index: u64) -> Setup {
        Setup {
            binary: self.binary.clone(),
            sync: "always",
            // Every fourth folder has memtables of the default size.
            has_small_buffer: index % 4 != 3,
        }
    }

    fn failed(&self, failure: Failure, folder: PathBuf, kill: Option<Kill>) -> Box<Failed> {
        Box::new(Failed {
            failure,
            seed: self.seed,
            folder,
            kill,
        })
    }

    /// Kills the program on one folder, [`KILLS_PER_FOLDER`] times or until `is_over`, and removes the folder.
    fn torture_folder(
        &self,
        index: u64,
        full_journal: Option<&FullJournal>,
        is_over: impl Fn() -> bool,
    ) -> Result<Counts, Box<Failed>> {
        let root = self.dir.join(format!("folder-{index}"));
        let failed = |failure, kill| self.failed(failure, root.clone(), kill);
        // Spreads the seeds, so that neighbouring folders do not get neighbouring seeds.
        let mut seed = self.seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let folder = Folder::new(root.clone(), &self.setup(index), seed);
        let mut folder = folder.map_err(|failure| failed(failure, None))?;
        let begin = index * KILLS_PER_FOLDER;
        let end = (begin + KILLS_PER_FOLDER).min(self.kills);
        for number in begin..end {
            if is_over() {
                return Ok(folder.counts);
            }
            let kill = self.kinds[number as usize % self.kinds.len()];
            match full_journal.filter(|_| kill == Kill::InRotation) {
                Some(full_journal) => {
                    seed = seed.wrapping_add(1);
                    let root = self.dir.join(format!("full-{number}"));
                    let killed = full_journal.kill_copy(root.clone(), seed);
                    let killed = killed.map_err(|failure| self.failed(failure, root, Some(kill)));
                    folder.counts.add(&killed?);
                }
                None => {
                    let killed = folder.run_until(kill);
                    killed.map_err(|failure| failed(failure, Some(kill)))?;
                }
            }
        }
        let checked = folder.final_check();
        let removed = checked.and_then(|()| Ok(fs::remove_dir_all(&folder.root)?));
        removed.map_err(|failure| failed(failure, None))?;
        Ok(folder.counts)
    }
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        for (kill, count) in &other.kills {
            let sum = self.kills.entry(*kill).or_default();
            sum.total += count.total;
            sum.from_outside += count.from_outside;
        }
        self.acknowledged += other.acknowledged;
        self.entries_read += other.entries_read;
        self.load_time += other.load_time;
        self.bytes_lost += other.bytes_lost;
    }

    /// Returns how many messages one server has acknowledged in a second of load.
    pub fn rate(&self) -> f64 {
        self.acknowledged as f64 / self.load_time.as_secs_f64().max(f64::EPSILON)
    }
}

/// Writes the counts in one line.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        let kills: u64 = counts.kills.values().map(|count| count.total).sum();
        write!(f, "{kills} kills (")?;
        for (index, (kill, count)) in counts.kills.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{kill} {}", count.total)?;
            if kill.is_injected() && count.from_outside > 0 {
                write!(f, " of which {} from outside", count.from_outside)?;
            }
        }
        write!(
            f,
            "), {} messages acknowledged ({:.0}/s), {} entries read back, {} bytes lost to power cuts, {:.1} s",
            counts.acknowledged,
            counts.rate(),
            counts.entries_read,
            counts.bytes_lost,
            self.duration.as_secs_f64()
        )
    }
}

/// Writes what was promised, what was found instead, and how to repeat the campaign.
impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 10;
        match &self.failure {
            Failure::Harness(error) => writeln!(f, "The torture can't go on: {error}")?,
            Failure::Breach(breaches) => {
                for breach in breaches.iter().take(SHOWN) {
                    writeln!(f, "{breach}")?;
                }
                if breaches.len() > SHOWN {
                    writeln!(f, "... and {} more", breaches.len() - SHOWN)?;
                }
            }
        }
        if let Some(kill) = self.kill {
            writeln!(f, "Found in a run that was to end with this kill: {kill}.")?;
        }
        write!(
            f,
            "Seed {}; the folder is {}",
            self.seed,
            self.folder.display()
        )
    }
}
