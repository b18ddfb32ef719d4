//! The store's folder as it is written, and as the system is asked for it.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf, absolute};

use super::Store;

impl Store {
    /// The folder that [`path`](Self::path) means, as an absolute path; none where everything is in memory.
    ///
    /// A `~` at its beginning is the home folder, as in a shell: a config knows no shell, and a folder named `~` is what
    /// nobody means. A folder of that name is written as `./~`.
    ///
    /// # Errors
    ///
    /// What is wrong with the path, in words.
    pub fn folder(&self) -> Result<Option<PathBuf>, String> {
        let Some(path) = &self.path else {
            return Ok(None);
        };
        if path.as_os_str().is_empty() {
            return Err("names no folder: leave the key out to keep everything in memory".into());
        }
        if path.to_str().is_some_and(|path| path.trim().is_empty()) {
            return Err(format!("{path:?} is blank: name a folder"));
        }
        let folder = expanded(path, std::env::home_dir())?;
        let folder = absolute(&folder).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Some(folder))
    }
}

/// The path with its home folder written out.
fn expanded(path: &Path, home: Option<PathBuf>) -> Result<PathBuf, String> {
    let mut parts = path.components();
    let first = match parts.next() {
        Some(Component::Normal(first)) => first,
        _ => return Ok(path.to_owned()),
    };
    if first != OsStr::new("~") {
        let is_other = first.as_encoded_bytes().starts_with(b"~");
        return if is_other {
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
        Some(home) => Ok(home.join(parts.as_path())),
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
    fn a_tilde_at_the_beginning_is_the_home_folder_or_refused() {
        let said = |path: &str| {
            let expanded = expanded(Path::new(path), Some("/users/ann".into()));
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
            assert_eq!(said(path).as_deref().map(Path::new), Ok(Path::new(folder)));
        }
        assert!(said("~bob/data").unwrap_err().contains("write it in full"));
        for home in [None, Some("".into()), Some("ann".into())] {
            let refused = expanded(Path::new("~/data"), home).unwrap_err();
            assert!(refused.contains("HOME"), "{refused}");
        }
    }

    #[test]
    fn a_path_that_names_nothing_is_refused_and_any_other_is_absolute() {
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
