//! Runs `imd store`: checks, dumps or compacts the folder of a store that no daemon uses.
//!
//! Checking and dumping read a private copy of the journals and never change the folder. A signal ends them, and the
//! copy is removed in any case.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use imd::id::Uid;
use imd::store::{CompactError, Findings, Inspection, OpenError, StoreError};

use super::failure::{Failure, warn};
use super::signals::Signals;
use super::{StoreCommand, launch, output};

/// How long an inspection may take to end by itself after a signal.
const GRACE: Duration = Duration::from_secs(1);

/// How often the removal of a copy is tried.
const REMOVALS: u32 = 10;

/// The state of an inspection that is shared between the thread that works and the task that handles signals.
#[derive(Default)]
struct InspectionTask {
    /// Set after a signal: the inspection ends as soon as it notices.
    is_stopped: AtomicBool,
    /// The private copy of the journals, as soon as its folder exists. It is removed from outside when the inspection
    /// does not end in time.
    copy: OnceLock<PathBuf>,
}

/// Runs one command of `imd store`.
///
/// # Errors
///
/// A folder that is in use, unusable or damaged, a stdout that fails, and a signal that ended the command.
pub async fn run(command: StoreCommand) -> Result<(), Failure> {
    launch::make_files_private();
    match command {
        StoreCommand::Check { dir } => until_a_signal(move |task| check(&dir, task)).await,
        StoreCommand::Dump { dir, uid } => until_a_signal(move |task| dump(&dir, uid, task)).await,
        // Compacting writes to the folder, so it has no private copy to remove. A signal kills the process, and the
        // folder recovers as after a crash.
        StoreCommand::Compact { dir } => compact(&dir),
    }
}

/// Runs `work` on a thread until it is done or a signal arrives. The private copy of the folder is gone afterwards.
async fn until_a_signal(
    work: impl FnOnce(&InspectionTask) -> Result<(), Failure> + Send + 'static,
) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let task = Arc::new(InspectionTask::default());
    // The work blocks on the disk, and on the reader of stdout.
    let mut thread = tokio::task::spawn_blocking({
        let task = Arc::clone(&task);
        move || work(&task)
    });
    tokio::select! {
        done = &mut thread => {
            return done.unwrap_or_else(|error| Err(Failure::Failed(error.to_string())));
        }
        () = signals.next() => task.is_stopped.store(true, Ordering::Relaxed),
    }
    let ended = tokio::time::timeout(GRACE, thread).await;
    if let (Err(_), Some(copy)) = (ended, task.copy.get()) {
        // The thread may be blocked by a stdout that nobody reads, or still be writing to its copy, so the copy is removed
        // from here. A file that the thread adds meanwhile makes the removal fail, and without its folder it adds no more.
        let is_gone = |_: &u32| std::fs::remove_dir_all(copy).is_ok() || !copy.exists();
        let _ = (0..REMOVALS).find(is_gone);
    }
    Err(stopped())
}

/// Returns the failure of a command that a signal has ended.
fn stopped() -> Failure {
    Failure::Failed("a signal has ended it".into())
}

impl InspectionTask {
    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Opens a folder for inspection, and remembers its private copy.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] when the folder can't be inspected, with advice on what to do about it.
    fn open(&self, dir: &Path) -> Result<Inspection, Failure> {
        const NEEDS: &str = "to be looked into, a folder has to be readable, with all that is in it, and there has to be \
                             room for a copy of its journals where temporary files are (TMPDIR)";
        // The cell is empty: each command opens one folder.
        let begun = |copy: &Path| drop(self.copy.set(copy.to_owned()));
        Inspection::open_telling(dir, begun).map_err(|error| refusal(&error, NEEDS))
    }
}

/// Returns the failure for a folder that can't be opened. `needs` says what the command requires of a folder, for the
/// case that the folder does not have it.
fn refusal(error: &OpenError, needs: &str) -> Failure {
    let advice = match error {
        OpenError::InUse(_) => {
            "stop it first, or let it write down what it holds: imd snapshot save FILE"
        }
        OpenError::Unusable { .. } => needs,
        OpenError::Newer { .. } => "use a newer imd",
        OpenError::Damaged { .. } => "bring back a copy of the folder",
        OpenError::UnexpectedEntry { .. } => "remove it, or put a copy of the file there",
        OpenError::Foreign { .. } => {
            "bring back the one that belongs there, or a copy of the whole folder"
        }
        OpenError::NoStore(_) | OpenError::NotAStore { .. } | OpenError::BadPath(_) => {
            "name the folder that a config has as store.path"
        }
    };
    Failure::Usage(format!("{}: {advice}", error.reason()))
}

/// Reads a whole store, prints what it holds, and reports what is inconsistent.
fn check(dir: &Path, task: &InspectionTask) -> Result<(), Failure> {
    let findings = task.open(dir)?.check_until(|| task.is_stopped());
    let Findings {
        users,
        groups,
        members,
        inboxes,
        entries,
        group_messages,
        ids,
        commits,
        problems,
        wrong,
    } = findings.ok_or_else(stopped)?;
    output::line(&format!(
        "{}   commits {commits}\n\
         users {users}   groups {groups}   members {members}\n\
         inboxes {inboxes}   entries {entries}   group texts {group_messages}   message ids {ids}",
        dir.display(),
    ))?;
    if wrong == 0 {
        return output::line("All of it was read, and it is whole.");
    }
    for problem in &problems {
        warn(problem);
    }
    Err(Failure::Failed(format!(
        "{wrong} things are wrong. Bring back a copy of the folder; what can be read: imd store dump {}",
        dir.display()
    )))
}

/// Prints the contents of a store, and reports what is damaged.
fn dump(dir: &Path, uid: Option<Uid>, task: &InspectionTask) -> Result<(), Failure> {
    let inspection = task.open(dir)?;
    let mut problems = inspection.dump(uid, |item| {
        if task.is_stopped() {
            return Err(stopped());
        }
        output::json(&item)
    })?;
    let mut wrong = problems.len() as u64;
    // A dump finds only damaged records. Missing records show only when all of them are checked against one another.
    let findings = inspection.check_until(|| task.is_stopped());
    let findings = findings.ok_or_else(stopped)?;
    if findings.wrong > 0 {
        (problems, wrong) = (findings.problems, findings.wrong);
    }
    if wrong == 0 {
        return Ok(());
    }
    for problem in &problems {
        warn(problem);
    }
    Err(Failure::Failed(format!(
        "{wrong} things are wrong. Bring back a copy of the folder; what can be read was printed"
    )))
}

/// Compacts a store, and prints how much smaller it is.
fn compact(dir: &Path) -> Result<(), Failure> {
    let before = size(dir);
    const NEEDS: &str = "to be compacted, a folder has to be writable, with all that is in it";
    Inspection::compact(dir).map_err(|error| match error {
        CompactError::Open(error) => refusal(&error, NEEDS),
        CompactError::Failed(error) => error.into(),
    })?;
    output::line(&format!("{before} bytes before, {} now", size(dir)))
}

/// Returns the size of all files in a folder, in bytes. Files that can't be read count as empty.
fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => size(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Failure::Failed(error.to_string())
    }
}
