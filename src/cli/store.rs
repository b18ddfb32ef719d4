//! `imd store`: looking into a store's folder.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use imd::id::Uid;
use imd::store::{CompactError, Findings, Inspection, OpenError, StoreFailed};

use super::failure::{Failure, warn};
use super::signals::Signals;
use super::{StoreCommand, launch, output};

/// How long a command that a signal has ended may take to end by itself.
const GRACE: Duration = Duration::from_secs(1);

/// A look into a folder, as whoever may have to end it sees it.
#[derive(Default)]
struct Look {
    is_stopped: AtomicBool,
    /// The private copy that it looks into.
    copy: OnceLock<PathBuf>,
}

/// Runs one of the commands.
///
/// # Errors
///
/// What is wrong with the folder, or with what is in it.
pub async fn run(command: StoreCommand) -> Result<(), Failure> {
    launch::make_files_private();
    match command {
        StoreCommand::Check { dir } => until_a_signal(move |look| check(&dir, look)).await,
        StoreCommand::Dump { dir, uid } => until_a_signal(move |look| dump(&dir, uid, look)).await,
        // It writes: a signal ends it as it ends any process, and the folder is as after a crash.
        StoreCommand::Compact { dir } => compact(&dir),
    }
}

/// Does `work`, or what there is time for until a signal comes. Its copy of the folder is gone afterwards.
async fn until_a_signal(
    work: impl FnOnce(&Look) -> Result<(), Failure> + Send + 'static,
) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let look = Arc::new(Look::default());
    // It waits for the disk, and for whoever reads what it prints.
    let mut looking = tokio::task::spawn_blocking({
        let look = Arc::clone(&look);
        move || work(&look)
    });
    tokio::select! {
        done = &mut looking => {
            return done.unwrap_or_else(|error| Err(Failure::Failed(error.to_string())));
        }
        () = signals.next() => look.is_stopped.store(true, Ordering::Relaxed),
    }
    let ended = tokio::time::timeout(GRACE, looking).await;
    if let (Err(_), Some(copy)) = (ended, look.copy.get()) {
        // Nobody reads on, perhaps.
        let _ = std::fs::remove_dir_all(copy);
    }
    Err(stopped())
}

fn stopped() -> Failure {
    Failure::Failed("a signal has ended it".into())
}

impl Look {
    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Opens a folder.
    fn into(&self, dir: &Path) -> Result<Inspection, Failure> {
        const NEEDS: &str = "to be looked into, a folder has to be readable, with all that is in it, and there has to be \
                             room for a copy of its journals where temporary files are (TMPDIR)";
        let inspection = Inspection::open(dir).map_err(|error| refusal(&error, NEEDS))?;
        // There is one.
        let _ = self.copy.set(inspection.copy().to_owned());
        Ok(inspection)
    }
}

/// Why a folder can't be used by a command that `needs` this of it.
fn refusal(error: &OpenError, needs: &str) -> Failure {
    let advice = match error {
        OpenError::InUse(_) => {
            "stop it first, or let it write down what it holds: imd snapshot save FILE"
        }
        OpenError::Unusable { .. } => needs,
        OpenError::Newer { .. } => "use a newer imd",
        OpenError::Damaged { .. } => "bring back a copy of the folder",
        OpenError::Planted { .. } => "remove it, or put a copy of the file there",
        OpenError::Foreign { .. } => {
            "bring back the one that belongs there, or a copy of the whole folder"
        }
        OpenError::NoStore(_) | OpenError::NotAStore { .. } | OpenError::BadPath(_) => {
            "name the folder that a config has as store.path"
        }
    };
    Failure::Usage(format!("{}: {advice}", error.reason()))
}

fn check(dir: &Path, look: &Look) -> Result<(), Failure> {
    let findings = look.into(dir)?.check_until(|| look.is_stopped());
    let Findings {
        users,
        groups,
        members,
        inboxes,
        entries,
        texts,
        ids,
        commits,
        problems,
        wrong,
    } = findings.ok_or_else(stopped)?;
    output::line(&format!(
        "{}   commits {commits}\n\
         users {users}   groups {groups}   members {members}\n\
         inboxes {inboxes}   entries {entries}   group texts {texts}   message ids {ids}",
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

fn dump(dir: &Path, uid: Option<Uid>, look: &Look) -> Result<(), Failure> {
    let inspection = look.into(dir)?;
    let mut problems = inspection.dump(uid, |item| {
        if look.is_stopped() {
            return Err(stopped());
        }
        output::json(&item)
    })?;
    let mut wrong = problems.len() as u64;
    // What is missing altogether only shows in how the records fit one another.
    let findings = inspection.check_until(|| look.is_stopped());
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

fn compact(dir: &Path) -> Result<(), Failure> {
    let before = size(dir);
    const NEEDS: &str = "to be compacted, a folder has to be writable, with all that is in it";
    Inspection::compact(dir).map_err(|error| match error {
        CompactError::Open(error) => refusal(&error, NEEDS),
        CompactError::Failed(error) => error.into(),
    })?;
    output::line(&format!("{before} bytes before, {} now", size(dir)))
}

/// What the files of a folder take. What can't be read counts as nothing.
fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(data) if data.is_dir() => size(&entry.path()),
        Ok(data) => data.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

impl From<StoreFailed> for Failure {
    fn from(error: StoreFailed) -> Self {
        Failure::Failed(error.to_string())
    }
}
