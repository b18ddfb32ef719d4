//! Checks a program before a stack is started for it.
//!
//! Serves `imd exec`, so that a wrong command fails at once and with a better text than that of the system.

use std::ffi::OsStr;

use crate::cli::failure::Failure;

/// Checks that a program is there and can be executed. Looks for it as the system will: by its path, or in the
/// folders of PATH.
///
/// # Errors
///
/// [`Failure::NotFound`] when there is no such program, and [`Failure::NotExecutable`] when it can't be executed.
/// Their exit codes are those of a shell.
#[cfg(unix)]
pub fn check(program: &OsStr) -> Result<(), Failure> {
    use std::path::Path;
    let name = program.to_string_lossy();
    let path = Path::new(program);
    let not_found = |why: &str| Failure::NotFound(format!("exec: {name}: {why}"));
    let cant_run =
        |why: &dyn std::fmt::Display| Failure::NotExecutable(format!("exec: {name}: {why}"));
    if program.as_encoded_bytes().contains(&b'/') {
        return match path_kind(path) {
            PathKind::Runs => Ok(()),
            PathKind::Missing => Err(not_found("there is no such program")),
            PathKind::Unfit(why) => Err(cant_run(&why)),
        };
    }
    let mut unfit = None;
    let folders = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    for folder in std::env::split_paths(&folders) {
        match path_kind(&folder.join(path)) {
            // An empty name would stand for the folder itself.
            PathKind::Runs if !program.is_empty() => return Ok(()),
            PathKind::Unfit(why) => unfit = unfit.or(Some((folder, why))),
            PathKind::Runs | PathKind::Missing => {}
        }
    }
    match unfit {
        Some((folder, why)) if !program.is_empty() => {
            let place = folder.join(path);
            Err(cant_run(&format!("{}: {why}", place.display())))
        }
        _ => Err(not_found(
            "there is no such program in the folders of PATH: give its path",
        )),
    }
}

/// What a path leads to.
#[cfg(unix)]
enum PathKind {
    Runs,
    Missing,
    Unfit(String),
}

/// Checks whether the file at a path can be executed.
#[cfg(unix)]
fn path_kind(path: &std::path::Path) -> PathKind {
    use nix::unistd::{AccessFlags, access};
    use std::io::ErrorKind::{NotADirectory, NotFound};
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => {
            return PathKind::Missing;
        }
        Err(error) => return PathKind::Unfit(error.to_string()),
    };
    if found.is_dir() {
        return PathKind::Unfit("this is a folder".into());
    }
    if !found.is_file() {
        return PathKind::Unfit("this is no file".into());
    }
    if let Err(error) = access(path, AccessFlags::X_OK) {
        return PathKind::Unfit(format!("{}: chmod +x makes it a program", error.desc()));
    }
    match interpreter(path) {
        Some(missing) if missing.ends_with('\r') => PathKind::Unfit(format!(
            "its interpreter {missing} is not there: its lines end with CRLF, and have to end with LF"
        )),
        Some(missing) => PathKind::Unfit(format!("its interpreter {missing} is not there")),
        None => PathKind::Runs,
    }
}

/// Returns the interpreter that a script names, if it is missing.
#[cfg(unix)]
fn interpreter(path: &std::path::Path) -> Option<String> {
    use std::io::Read;
    // The system does not read more of the first line.
    let mut head = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(256).read_to_end(&mut head).ok()?;
    let line = head
        .strip_prefix(b"#!")?
        .split(|&byte| byte == b'\n')
        .next()?;
    let line = String::from_utf8_lossy(line).into_owned();
    // The system splits the line in the same way, so a CR at its end is part of the name.
    let named = line.split([' ', '\t']).find(|word| !word.is_empty())?;
    (!std::fs::exists(named).ok()?).then(|| named.to_owned())
}

/// Accepts every program: here the system reports the error when the program is started.
#[cfg(not(unix))]
pub fn check(_: &OsStr) -> Result<(), Failure> {
    Ok(())
}
