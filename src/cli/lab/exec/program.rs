//! Finding a program before anything is made for it.

use std::ffi::OsStr;

use crate::cli::failure::Failure;

/// Makes sure that a program is there and can be run, looking for it as the system will.
///
/// # Errors
///
/// [`Failure::NotFound`] and [`Failure::NotExecutable`], whose codes are those of a shell.
#[cfg(unix)]
pub fn check(program: &OsStr) -> Result<(), Failure> {
    use std::path::Path;
    let name = program.to_string_lossy();
    let path = Path::new(program);
    let not_found = |why: &str| Failure::NotFound(format!("exec: {name}: {why}"));
    let cant_run =
        |why: &dyn std::fmt::Display| Failure::NotExecutable(format!("exec: {name}: {why}"));
    if program.as_encoded_bytes().contains(&b'/') {
        return match kind(path) {
            Kind::Runs => Ok(()),
            Kind::Missing => Err(not_found("there is no such program")),
            Kind::Unfit(why) => Err(cant_run(&why)),
        };
    }
    let mut unfit = None;
    let folders = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    for folder in std::env::split_paths(&folders) {
        match kind(&folder.join(path)) {
            // A name that is none would stand for the folder itself.
            Kind::Runs if !program.is_empty() => return Ok(()),
            Kind::Unfit(why) => unfit = unfit.or(Some((folder, why))),
            Kind::Runs | Kind::Missing => {}
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

#[cfg(unix)]
enum Kind {
    Runs,
    Missing,
    Unfit(String),
}

#[cfg(unix)]
fn kind(path: &std::path::Path) -> Kind {
    use nix::unistd::{AccessFlags, access};
    use std::io::ErrorKind::{NotADirectory, NotFound};
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Kind::Missing,
        Err(error) => return Kind::Unfit(error.to_string()),
    };
    if found.is_dir() {
        return Kind::Unfit("this is a folder".into());
    }
    if !found.is_file() {
        return Kind::Unfit("this is no file".into());
    }
    if let Err(error) = access(path, AccessFlags::X_OK) {
        return Kind::Unfit(format!("{}: chmod +x makes it a program", error.desc()));
    }
    match interpreter(path) {
        Some(missing) if missing.ends_with('\r') => Kind::Unfit(format!(
            "its interpreter {missing} is not there: its lines end with CRLF, and have to end with LF"
        )),
        Some(missing) => Kind::Unfit(format!("its interpreter {missing} is not there")),
        None => Kind::Runs,
    }
}

/// The interpreter that a script names and that is missing.
#[cfg(unix)]
fn interpreter(path: &std::path::Path) -> Option<String> {
    use std::io::Read;
    // The system reads no more of it.
    let mut head = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    file.take(256).read_to_end(&mut head).ok()?;
    let line = head
        .strip_prefix(b"#!")?
        .split(|&byte| byte == b'\n')
        .next()?;
    let line = String::from_utf8_lossy(line).into_owned();
    // As the system splits it: a CR at its end belongs to the name.
    let named = line.split([' ', '\t']).find(|word| !word.is_empty())?;
    (!std::fs::exists(named).ok()?).then(|| named.to_owned())
}

/// There the system says it when the program is started.
#[cfg(not(unix))]
pub fn check(_: &OsStr) -> Result<(), Failure> {
    Ok(())
}
