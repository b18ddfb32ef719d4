//! `imd store`: looking into a store's folder.

use std::path::Path;

use imd::store::{Findings, Inspection, OpenError, StoreFailed};

use super::failure::{Failure, warn};
use super::{StoreCommand, output};

/// Runs one of the commands. They wait for the disk and for nothing else.
///
/// # Errors
///
/// What is wrong with the folder, or with what is in it.
pub fn run(command: &StoreCommand) -> Result<(), Failure> {
    match command {
        StoreCommand::Check { dir } => check(dir),
        StoreCommand::Dump { dir, uid } => dump(dir, *uid),
        StoreCommand::Compact { dir } => compact(dir),
    }
}

fn check(dir: &Path) -> Result<(), Failure> {
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
    } = Inspection::open(dir)?.check();
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

fn dump(dir: &Path, uid: Option<i64>) -> Result<(), Failure> {
    let problems = Inspection::open(dir)?.dump(uid, |item| output::json(&item))?;
    if problems.is_empty() {
        return Ok(());
    }
    for problem in &problems {
        warn(problem);
    }
    Err(Failure::Failed(format!(
        "{} things could not be read, and are not in what was printed",
        problems.len()
    )))
}

fn compact(dir: &Path) -> Result<(), Failure> {
    let before = size(dir);
    Inspection::open(dir)?.compact()?;
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

/// Without the advice that is the daemon's: these commands have no other folder to take.
impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        Failure::Usage(match error {
            OpenError::InUse(path) => format!(
                "{} is in use by another imd: stop that first, or look into a copy of the folder",
                path.display()
            ),
            OpenError::Unusable { path, source } => format!("{}: {source}", path.display()),
            OpenError::NotAStore { path, .. } => OpenError::NoStore(path).to_string(),
            OpenError::Newer { path, found, known } => format!(
                "{} has format {found}, and this imd knows formats up to {known}: use a newer imd",
                path.display()
            ),
            OpenError::Damaged { path, why } => format!(
                "{} is damaged: {why}. Nothing was changed. Bring back a copy of the folder",
                path.display()
            ),
            other => other.to_string(),
        })
    }
}

impl From<StoreFailed> for Failure {
    fn from(error: StoreFailed) -> Self {
        Failure::Failed(error.to_string())
    }
}
