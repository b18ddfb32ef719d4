//! Why a store's folder can't be used, and what to do about it.
//!
//! Serves all modules that open or check a folder. The program prints these errors as they are, so each names the
//! folder, what is wrong with it, and what the user can do.

use std::io;
use std::path::{Path, PathBuf};

use super::engine::{EngineError, in_words};

/// Why a store's folder can't be used. The text also says what the user can do.
#[derive(Debug, thiserror::Error)]
#[error("{}{}", self.reason(), self.advice())]
pub enum OpenError {
    /// The path can't be that of a folder; the text says why.
    BadPath(String),
    /// Another process, or another store of this process, has the folder open.
    InUse(PathBuf),
    /// The system does not let the folder be created or used.
    Unusable {
        /// The folder that was to be opened.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The folder is no store and holds something else.
    NotAStore {
        /// The folder that was to be opened.
        path: PathBuf,
        /// The name of the entry that is no part of a store.
        found: String,
    },
    /// The folder is no store, and was opened for something that needs an existing one.
    NoStore(PathBuf),
    /// The folder was written by a newer `imd`.
    Newer {
        /// The folder that was to be opened.
        path: PathBuf,
        /// The format of the folder.
        found: u32,
        /// The newest format that this `imd` knows.
        known: u32,
    },
    /// An entry is not what a store has there: a symbolic link, a pipe, or a folder in the place of a file.
    UnexpectedEntry {
        /// The folder that was to be opened.
        path: PathBuf,
        /// The path of the entry, relative to the folder.
        entry: PathBuf,
        /// The kind of the entry, as the rest of a sentence.
        why: String,
    },
    /// A file was written for another store.
    Foreign {
        /// The folder that was to be opened.
        path: PathBuf,
        /// The path of the file, relative to the folder.
        entry: PathBuf,
        /// The id of the folder's store.
        id: u64,
        /// The id in the file; 0 if it has none.
        found: u64,
    },
    /// A file of the folder is not the one that was written, or is missing.
    Damaged {
        /// The folder that was to be opened.
        path: PathBuf,
        /// The damage, as a clause.
        why: String,
        /// Whether the damage was found after the engine was opened, which may have compacted and removed its files.
        is_tidied: bool,
    },
}

impl OpenError {
    /// Returns a function that makes errors of the system into errors of the folder at `path`.
    pub(super) fn unusable(path: &Path) -> impl Fn(io::Error) -> OpenError + Copy + '_ {
        move |source| OpenError::Unusable {
            path: path.to_owned(),
            source,
        }
    }

    /// Returns the error of a folder that is damaged.
    pub(super) fn damaged(path: &Path, why: impl ToString) -> OpenError {
        OpenError::Damaged {
            path: path.to_owned(),
            why: why.to_string(),
            is_tidied: false,
        }
    }

    /// Returns the error of a folder whose engine could not be opened or written.
    pub(super) fn engine(path: &Path, error: fjall::Error) -> OpenError {
        match error {
            fjall::Error::Locked => OpenError::InUse(path.to_owned()),
            fjall::Error::Io(error) => OpenError::unusable(path)(error),
            // An engine without space gives up too, for example while the folder is brought to a newer format.
            fjall::Error::Poisoned => OpenError::unusable(path)(io::Error::other(in_words(&error))),
            error => OpenError::damaged(path, EngineError::from(error)),
        }
    }

    /// Marks a damage as found after the engine was opened; returns any other error unchanged.
    pub(super) fn of_engine(mut self) -> Self {
        if let OpenError::Damaged { is_tidied, .. } = &mut self {
            *is_tidied = true;
        }
        self
    }

    /// Returns the problem without an advice, since the advice depends on the reason for which the folder was opened.
    pub fn reason(&self) -> String {
        match self {
            OpenError::BadPath(why) => why.clone(),
            OpenError::InUse(path) => format!("{} is in use by another imd", path.display()),
            OpenError::Unusable { path, source } => format!("{}: {source}", path.display()),
            OpenError::NotAStore { path, found } => format!(
                "{} is no store of imd, and not empty (there is {found:?})",
                path.display()
            ),
            OpenError::NoStore(path) => format!("{} is no store of imd", path.display()),
            OpenError::Newer { path, found, known } => format!(
                "{} has format {found}, and this imd knows formats up to {known}",
                path.display()
            ),
            OpenError::UnexpectedEntry { path, entry, why } => format!(
                "{}: {} {why}. Nothing was opened or changed",
                path.display(),
                path.join(entry).display()
            ),
            OpenError::Foreign {
                path,
                entry,
                id,
                found,
            } => format!(
                "{}: {} is of another store: it has the id {found:016x}, and this store {id:016x}",
                path.display(),
                path.join(entry).display()
            ),
            OpenError::Damaged {
                path,
                why,
                is_tidied,
            } => {
                let changed = match is_tidied {
                    true => "The engine may have merged its files: what they hold was not changed",
                    false => "Nothing was changed",
                };
                format!("{} is damaged: {why}. {changed}", path.display())
            }
        }
    }

    /// Returns the error of a private copy as one of the `folder` that was copied: its path takes the place of the
    /// copy's.
    pub(super) fn with_original_path(self, copy: &Path, folder: &Path) -> Self {
        let moved = |path: PathBuf| match path.strip_prefix(copy) {
            Ok(rest) if rest.as_os_str().is_empty() => folder.to_owned(),
            Ok(rest) => folder.join(rest),
            Err(_) => path,
        };
        let renamed = |text: &str| {
            let (copy, folder) = (copy.display().to_string(), folder.display().to_string());
            text.replace(&copy, &folder)
        };
        match self {
            OpenError::BadPath(why) => OpenError::BadPath(why),
            OpenError::InUse(path) => OpenError::InUse(moved(path)),
            OpenError::Unusable { path, source } => OpenError::Unusable {
                path: moved(path),
                source: io::Error::new(source.kind(), renamed(&source.to_string())),
            },
            OpenError::NotAStore { path, found } => OpenError::NotAStore {
                path: moved(path),
                found,
            },
            OpenError::NoStore(path) => OpenError::NoStore(moved(path)),
            OpenError::Newer { path, found, known } => OpenError::Newer {
                path: moved(path),
                found,
                known,
            },
            OpenError::UnexpectedEntry { path, entry, why } => OpenError::UnexpectedEntry {
                path: moved(path),
                entry,
                why,
            },
            OpenError::Foreign {
                path,
                entry,
                id,
                found,
            } => OpenError::Foreign {
                path: moved(path),
                entry,
                id,
                found,
            },
            // The engine has only opened the copy.
            OpenError::Damaged { path, why, .. } => OpenError::Damaged {
                path: moved(path),
                why: renamed(&why),
                is_tidied: false,
            },
        }
    }

    /// Returns what the user can do, as the rest of the sentence.
    fn advice(&self) -> &'static str {
        match self {
            OpenError::BadPath(_) => "",
            OpenError::InUse(_) => {
                ": stop it, or use another folder (--store DIR) or none (--memory)"
            }
            OpenError::Unusable { .. } => {
                ": make sure that its parent is there, that it may be written and that there is room, or use another \
                 folder (--store DIR) or none (--memory)"
            }
            OpenError::NotAStore { .. } => ": use another folder (--store DIR) or none (--memory)",
            OpenError::NoStore(_) => ": name the folder that a config has as store.path",
            OpenError::Newer { .. } => ": use a newer imd, or another folder (--store DIR)",
            OpenError::UnexpectedEntry { .. } => {
                ". Remove it, or put a copy of the file there; or start with another folder (--store DIR)"
            }
            OpenError::Foreign { .. } => {
                ". Bring back the one that belongs there, or a copy of the whole folder, or start with another folder \
                 (--store DIR)"
            }
            OpenError::Damaged { .. } => {
                ". Bring back a copy of the folder, or start with another one (--store DIR)"
            }
        }
    }
}
