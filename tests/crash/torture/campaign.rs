//! Kills many times: in several folders side by side, with all kinds of kills in turn.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::folder::{Failure, Folder, Setup, Tally};
use super::full::Full;
use super::kill::Kill;

/// The number of kills in one folder. What has to be read back grows with each.
const KILLS_PER_FOLDER: u64 = 22;

/// The number of folders that are tortured at the same time.
const SIDE_BY_SIDE: usize = 2;

/// What a campaign does.
#[derive(Debug, Clone)]
pub struct Campaign {
    pub binary: PathBuf,
    /// Where the folders are made.
    pub dir: PathBuf,
    pub kills: u64,
    pub seed: u64,
    pub kinds: Vec<Kill>,
}

/// The result of a campaign in which no promise was broken.
pub struct Report {
    pub tally: Tally,
    pub lasted: Duration,
}

/// The result of a campaign that was ended by a broken promise or by an error of the harness.
pub struct Broken {
    pub failure: Failure,
    pub seed: u64,
    /// The folder where it happened, which is left as it is.
    pub folder: PathBuf,
    pub kill: Option<Kill>,
}

impl Campaign {
    /// Kills `kills` times, or until a promise was broken.
    pub fn run(&self) -> Result<Report, Box<Broken>> {
        let begun = Instant::now();
        let full = match self.kinds.contains(&Kill::InRotation) {
            true => {
                let root = self.dir.join("full");
                let made = Full::make(root.clone(), &self.setup(0));
                Some(made.map_err(|failure| self.broken(failure, root, None))?)
            }
            false => None,
        };
        let next = AtomicU64::new(0);
        let tally = Mutex::new(Tally::default());
        let broken = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..SIDE_BY_SIDE {
                scope.spawn(|| {
                    while broken.lock().is_none() {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        if index * KILLS_PER_FOLDER >= self.kills {
                            return;
                        }
                        match self.torture(index, full.as_ref(), || broken.lock().is_some()) {
                            Ok(done) => tally.lock().add(&done),
                            Err(failed) => drop(broken.lock().get_or_insert(failed)),
                        }
                    }
                });
            }
        });
        if let Some(broken) = broken.into_inner() {
            return Err(broken);
        }
        if let Some(full) = full {
            full.remove();
        }
        Ok(Report {
            tally: tally.into_inner(),
            lasted: begun.elapsed(),
        })
    }

    fn setup(&self, index: u64) -> Setup {
        Setup {
            binary: self.binary.clone(),
            sync: "always",
            // Every fourth folder has memtables of the usual size.
            has_small_buffer: index % 4 != 3,
        }
    }

    fn broken(&self, failure: Failure, folder: PathBuf, kill: Option<Kill>) -> Box<Broken> {
        Box::new(Broken {
            failure,
            seed: self.seed,
            folder,
            kill,
        })
    }

    /// Tortures one folder.
    fn torture(
        &self,
        index: u64,
        full: Option<&Full>,
        is_over: impl Fn() -> bool,
    ) -> Result<Tally, Box<Broken>> {
        let root = self.dir.join(format!("folder-{index}"));
        let broken = |failure, kill| self.broken(failure, root.clone(), kill);
        // A seed far from that of the next folder.
        let mut seed = self.seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let folder = Folder::new(root.clone(), &self.setup(index), seed);
        let mut folder = folder.map_err(|failure| broken(failure, None))?;
        let begin = index * KILLS_PER_FOLDER;
        let end = (begin + KILLS_PER_FOLDER).min(self.kills);
        for number in begin..end {
            if is_over() {
                return Ok(folder.tally);
            }
            let kill = self.kinds[number as usize % self.kinds.len()];
            match full.filter(|_| kill == Kill::InRotation) {
                Some(full) => {
                    seed = seed.wrapping_add(1);
                    let root = self.dir.join(format!("full-{number}"));
                    let rotated = full.rotate(root.clone(), seed);
                    let rotated = rotated.map_err(|failure| self.broken(failure, root, Some(kill)));
                    folder.tally.add(&rotated?);
                }
                None => {
                    let lived = folder.live(kill);
                    lived.map_err(|failure| broken(failure, Some(kill)))?;
                }
            }
        }
        let looked = folder.last_look();
        let removed = looked.and_then(|()| Ok(fs::remove_dir_all(&folder.root)?));
        removed.map_err(|failure| broken(failure, None))?;
        Ok(folder.tally)
    }
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        for (kill, (all, by_hand)) in &other.kills {
            let sum = self.kills.entry(*kill).or_default();
            *sum = (sum.0 + all, sum.1 + by_hand);
        }
        self.acknowledged += other.acknowledged;
        self.checked += other.checked;
        self.loaded += other.loaded;
        self.cut += other.cut;
    }

    /// Returns the acknowledged messages for each second of load on one server.
    pub fn rate(&self) -> f64 {
        self.acknowledged as f64 / self.loaded.as_secs_f64().max(f64::EPSILON)
    }
}

/// One line.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kills: u64 = self.tally.kills.values().map(|(all, _)| all).sum();
        write!(f, "{kills} kills (")?;
        for (index, (kill, (all, by_hand))) in self.tally.kills.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{kill} {all}")?;
            if kill.is_injected() && *by_hand > 0 {
                write!(f, " of which {by_hand} from outside")?;
            }
        }
        write!(
            f,
            "), {} messages acknowledged ({:.0}/s), {} entries read back, {} bytes lost to power cuts, {:.1} s",
            self.tally.acknowledged,
            self.tally.rate(),
            self.tally.checked,
            self.tally.cut,
            self.lasted.as_secs_f64()
        )
    }
}

/// What was promised, what was found, and how to see it again.
impl fmt::Display for Broken {
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
            writeln!(f, "Found in a life that was to end so: {kill}.")?;
        }
        write!(
            f,
            "Seed {}; the folder is {}",
            self.seed,
            self.folder.display()
        )
    }
}
