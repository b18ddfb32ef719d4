//! Resolves the paths of the config to absolute ones.
//!
//! Serves the validation of a config, the durable store, and TLS. A path is resolved in one place, so that what was checked
//! is what is opened.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf, absolute};

use super::Store;

impl Store {
    /// Returns the absolute path of the folder that [`path`](Self::path) names. None if the store is in memory.
    ///
    /// A `~` at the beginning stands for the home folder, as in a shell, since hardly anyone means a folder that is
    /// named `~`. Such a folder is written as `./~`.
    ///
    /// # Errors
    ///
    /// A message for the user if the path is empty or blank, begins with the home folder of another user or with one
    /// that is not known, or can't be made absolute.
    pub fn folder(&self) -> Result<Option<PathBuf>, String> {
        let Some(path) = &self.path else {
            return Ok(None);
        };
        if path.as_os_str().is_empty() {
            return Err("names no folder: leave the key out to keep everything in memory".into());
        }
        resolve(path, "folder").map(Some)
    }
}

/// Returns the absolute path of a file or folder that a config names, with the home folder in place of a `~` at the
/// beginning. `kind` is the word for it in errors.
///
/// # Errors
///
/// A message for the user if the path is blank, begins with the home folder of another user or with one that is not known,
/// or can't be made absolute.
pub(super) fn resolve(path: &Path, kind: &str) -> Result<PathBuf, String> {
    if path.to_str().is_some_and(|path| path.trim().is_empty()) {
        return Err(format!("{path:?} is blank: name a {kind}"));
    }
    let expanded = expand_home(path, std::env::home_dir())?;
    absolute(&expanded).map_err(|error| format!("{}: {error}", path.display()))
}

/// Replaces a `~` at the beginning of a path by the home folder.
///
/// # Errors
///
/// A message for the user if the home folder is not known, or if it is that of another user (`~name`).
fn expand_home(path: &Path, home: Option<PathBuf>) -> Result<PathBuf, String> {
    let mut components = path.components();
    let first = match components.next() {
        Some(Component::Normal(first)) => first,
        _ => return Ok(path.to_owned()),
    };
    if first != OsStr::new("~") {
        let is_other_user = first.as_encoded_bytes().starts_with(b"~");
        return if is_other_user {
            let path = path.display();
            Err(format!(
                "{path}: the home folder of another user is not looked up: write it in full (./{path} is a folder of that \
                 name)"
            ))
        } else {
            Ok(path.to_owned())
        };
    }
    match home.filter(|home| home.is_absolute()) {
        Some(home) => Ok(home.join(components.as_path())),
        None => Err(format!(
            "{}: ~ is the home folder, and HOME does not say where it is: write it in full",
            path.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_at_the_beginning_stands_for_the_home_folder_and_is_refused_if_that_is_not_known() {
        let expand = |path: &str| {
            let expanded = expand_home(Path::new(path), Some("/users/ann".into()));
            expanded.map(|path| path.to_str().unwrap().to_owned())
        };
        for (path, folder) in [
            ("~", "/users/ann"),
            ("~/", "/users/ann/"),
            ("~/imd/data", "/users/ann/imd/data"),
            ("./~", "./~"),
            ("data/~", "data/~"),
            ("/~", "/~"),
            ("data~", "data~"),
        ] {
            assert_eq!(
                expand(path).as_deref().map(Path::new),
                Ok(Path::new(folder))
            );
        }
        assert!(
            expand("~bob/data")
                .unwrap_err()
                .contains("write it in full")
        );
        for home in [None, Some("".into()), Some("ann".into())] {
            let refused = expand_home(Path::new("~/data"), home).unwrap_err();
            assert!(refused.contains("HOME"), "{refused}");
        }
    }

    #[test]
    fn a_blank_path_is_refused_and_any_other_path_is_made_absolute() {
        let folder = |path: &str| {
            let store = Store {
                path: Some(path.into()),
                ..Store::default()
            };
            store.folder()
        };
        for blank in ["", " ", "\t \n"] {
            assert!(folder(blank).is_err(), "{blank:?}");
        }
        let data = folder("imd-data").unwrap().unwrap();
        assert!(data.is_absolute() && data.ends_with("imd-data"));
    }
}
