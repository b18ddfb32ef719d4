//! The store's folder, from the outside: who may use it, what format it has, whether the engine lost anything.
//!
//! ```text
//! lock      held for as long as the store is open
//! making    there while a new store is made
//! format    which format the rest has
//! id        which store it is: what every commit carries
//! mark      how far the commits have come
//! boot      which start of the machine the last commits are from
//! engine/   the engine's own files
//! ```
//!
//! All of it is for its owner alone: folders have the permissions 0700 and files 0600. The folder itself may be reached
//! through a symbolic link, to another disk for example; what is in it may not, see [`survey`].

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::engine::{Engine, EngineError, in_words};
use super::errors::OpenError;
use super::journal::{self, JournalError, Journals, Torn};
use super::litter::is_litter;
use super::manifest::{self, ManifestError};
use super::mark::{self, Found, Mark, Reached};
use super::record::{Record, SIGNING_KEY, SecretRecord, StateRecord};
use super::regular;
use super::survey::{self, Tables};
use crate::config;

pub const LOCK: &str = "lock";
const MAKING: &str = "making";
const BOOT: &str = "boot";
pub const FORMAT: &str = "format";
pub const ID: &str = "id";
pub const ENGINE: &str = "engine";

/// What is added to the name of a journal that is kept until it is known that its end can go.
const KEPT: &str = "kept";

/// What the format file says before its number.
const HEADLINE: &str = "imd store, format ";

/// What the id file says before the id.
const ID_HEADLINE: &str = "imd store, id ";

/// Brings a folder to the next format.
pub type Migration = fn(&Path) -> Result<(), OpenError>;

/// From format 1 to 2, from 2 to 3, and so on.
const MIGRATIONS: &[Migration] = &[give_id];

/// A folder that was found to be in order, with its engine.
#[derive(Debug)]
pub struct Opened {
    /// Keeps others out until it is dropped.
    pub hold: Hold,
    /// The engine.
    pub engine: Engine,
    /// Where the commits are noted.
    pub mark: Mark,
    /// What the last commit has left.
    pub state: StateRecord,
    /// Whether the store was made just now.
    pub is_new: bool,
}

/// What keeps others out of a folder.
#[derive(Debug)]
pub struct Hold {
    /// The lock file, with its lock.
    pub lock: File,
    /// The folder itself, with a lock where the system locks folders: it also holds when somebody removes the lock file.
    _folder: Option<File>,
}

/// Opens a folder, or makes a new one.
///
/// # Errors
///
/// When it can't be used, or is not in order.
pub fn open(path: &Path, buffer: u64) -> Result<Opened, OpenError> {
    open_with(path, buffer, Tables::Own)
}

/// Does the same with a private copy, in which tables are links.
///
/// # Errors
///
/// As [`open`].
pub fn open_copy(path: &Path, buffer: u64) -> Result<Opened, OpenError> {
    open_with(path, buffer, Tables::Linked)
}

fn open_with(path: &Path, buffer: u64, tables: Tables) -> Result<Opened, OpenError> {
    let hold = lock(path, tables)?;
    let new = prepare(path, buffer, tables)?;
    let is_new = new.is_some();
    let (engine, mark, state) = match new {
        Some(new) => new,
        None => open_engine(path, buffer, Some(read_id(path)?))?,
    };
    // What the engine has made has the permissions that the process gives to new files.
    let _ = survey::tighten(path);
    Ok(Opened {
        hold,
        engine,
        mark,
        state,
        is_new,
    })
}

/// Opens a folder that is a store already.
///
/// # Errors
///
/// As [`open`], and when it is none.
pub fn open_existing(path: &Path, buffer: u64) -> Result<Opened, OpenError> {
    match read_format(path)? {
        Some(_) => open(path, buffer),
        None => Err(OpenError::NoStore(path.to_owned())),
    }
}

fn unusable(path: &Path) -> impl Fn(io::Error) -> OpenError {
    move |source| OpenError::Unusable {
        path: path.to_owned(),
        source,
    }
}

fn damaged(path: &Path, why: impl ToString) -> OpenError {
    OpenError::Damaged {
        path: path.to_owned(),
        why: why.to_string(),
        is_tidied: false,
    }
}

/// Makes the folder where it is missing, and takes it for this process. Everything in it has been looked at afterwards,
/// and is for its owner alone.
fn lock(path: &Path, tables: Tables) -> Result<Hold, OpenError> {
    match private_folder().create(path) {
        Ok(()) => sync_parent(path).map_err(unusable(path))?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            check_is_folder(path).map_err(unusable(path))?;
            refuse_foreign(path)?;
        }
        Err(error) => return Err(unusable(path)(error)),
    }
    survey::check(path, tables)?;
    let folder = lock_folder(path, File::try_lock)?;
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false);
    let lock = regular::open(&path.join(LOCK), options).map_err(unusable(path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => return Err(unusable(path)(error)),
    }
    match survey::tighten(path) {
        Ok(0) => {}
        Ok(entries) => tracing::warn!(
            folder = %path.display(),
            entries,
            "other users of the machine could read the store: its folder and files are now for their owner alone"
        ),
        // On a file system without permissions, or in a folder of another user.
        Err(error) => tracing::warn!(
            folder = %path.display(),
            %error,
            "other users of the machine may be able to read the store, and that can't be changed"
        ),
    }
    Ok(Hold {
        lock,
        _folder: folder,
    })
}

/// What makes folders that are for their owner alone.
fn private_folder() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.recursive(false);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
}

/// Locks the folder itself, where the system can.
///
/// # Errors
///
/// [`OpenError::InUse`] when another process has locked it.
pub fn lock_folder(
    path: &Path,
    lock: impl FnOnce(&File) -> Result<(), TryLockError>,
) -> Result<Option<File>, OpenError> {
    if !cfg!(unix) {
        return Ok(None);
    }
    let folder = File::open(path).map_err(unusable(path))?;
    match lock(&folder) {
        Ok(()) => Ok(Some(folder)),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.to_owned())),
        // Some network file systems lock files alone.
        Err(TryLockError::Error(_)) => Ok(None),
    }
}

/// What can't be a folder is named as what it is.
fn check_is_folder(path: &Path) -> io::Result<()> {
    let error = match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => io::Error::new(ErrorKind::NotADirectory, "it is no folder"),
        Err(error) if error.kind() == ErrorKind::NotFound => match fs::read_link(path) {
            Ok(to) => {
                let why = format!("it is a link to {}, which is not there", to.display());
                io::Error::new(ErrorKind::NotFound, why)
            }
            Err(_) => error,
        },
        Err(error) => error,
    };
    Err(error)
}

/// Whether there is anything of that name, also a link that leads nowhere.
fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// Nothing is put into a folder that holds something else.
fn refuse_foreign(path: &Path) -> Result<(), OpenError> {
    if is_there(&path.join(FORMAT)) {
        return Ok(());
    }
    let is_ours = is_there(&path.join(MAKING)) || is_there(&mark::path(path));
    for entry in fs::read_dir(path).map_err(unusable(path))? {
        let entry = entry.map_err(unusable(path))?;
        let name = entry.file_name();
        if name != LOCK && !is_ours && !is_begun_marker(&entry) && !is_litter(&name) {
            return Err(OpenError::NotAStore {
                path: path.to_owned(),
                found: name.to_string_lossy().into_owned(),
            });
        }
    }
    Ok(())
}

/// Returns whether an entry is the file `making` before it got its name: a kill right after the start of the very first
/// `imd` in a folder leaves it there. A file that somebody else gave this name would not be empty.
fn is_begun_marker(entry: &fs::DirEntry) -> bool {
    let is_named = entry.file_name() == *regular::unfinished(Path::new(MAKING));
    is_named
        && entry
            .metadata()
            .is_ok_and(|found| found.is_file() && found.len() == 0)
}

/// Brings the folder to the format of this `imd`. Where there was no store, the new one is open already.
fn prepare(
    path: &Path,
    buffer: u64,
    tables: Tables,
) -> Result<Option<(Engine, Mark, StateRecord)>, OpenError> {
    let new = match read_format(path)? {
        Some(found) => {
            let known = MIGRATIONS.len() + 1;
            // Of a private copy nobody wants to know.
            if (found as usize) < known && tables == Tables::Own {
                tracing::warn!(folder = %path.display(), from = found, to = known, "the store is brought to a newer format");
            }
            migrate(path, found, MIGRATIONS)?;
            None
        }
        None if is_there(&mark::path(path)) && !is_there(&path.join(MAKING)) => {
            return Err(damaged(path, "its file \"format\" is missing"));
        }
        None => Some(make(path, buffer)?),
    };
    regular::remove_if_there(&path.join(MAKING)).map_err(unusable(path))?;
    Ok(new)
}

/// Whether a name in a store's folder is that of one of its parts, but for the lock.
pub fn is_part(name: &OsStr) -> bool {
    let is_kept = Path::new(name)
        .extension()
        .is_some_and(|extension| extension == KEPT);
    is_kept
        || [MAKING, BOOT, FORMAT, ID, ENGINE, mark::NAME]
            .iter()
            .any(|part| name == *part)
}

/// Whether a name in a store's folder is that of one of its parts, or of the lock.
pub fn is_part_or_lock(name: &OsStr) -> bool {
    name == LOCK || is_part(name)
}

/// The format that the folder has, if it is a store.
///
/// # Errors
///
/// When that can't be read.
pub fn read_format(path: &Path) -> Result<Option<u32>, OpenError> {
    let text = match regular::read(&path.join(FORMAT)) {
        Ok(bytes) => String::from_utf8(bytes).unwrap_or_default(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            survey::check(path, Tables::Linked)?;
            return Err(unusable(path)(error));
        }
    };
    let number = text
        .strip_prefix(HEADLINE)
        .and_then(|rest| rest.trim_end().parse().ok());
    match number {
        Some(number) if number > 0 => Ok(Some(number)),
        _ => Err(damaged(path, "its file \"format\" can't be read")),
    }
}

fn write_format(path: &Path, number: usize) -> io::Result<()> {
    let text = format!("{HEADLINE}{number}\n");
    regular::replace_synced(&path.join(FORMAT), text.as_bytes())?;
    sync_folder(path)
}

/// The id of the store in a folder.
fn read_id(path: &Path) -> Result<u64, OpenError> {
    let bytes = match regular::read(&path.join(ID)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        bytes => bytes.map_err(unusable(path))?,
    };
    let text = std::str::from_utf8(&bytes).ok();
    let id = text.and_then(|text| text.strip_prefix(ID_HEADLINE)?.strip_suffix('\n'));
    let id = id.and_then(|id| u64::from_str_radix(id, 16).ok());
    // None is 0, which commits of format 1 have.
    id.filter(|&id| id != 0)
        .ok_or_else(|| damaged(path, "its file \"id\" can't be read"))
}

fn write_id(path: &Path, id: u64) -> io::Result<()> {
    let text = format!("{ID_HEADLINE}{id:016x}\n");
    regular::replace_synced(&path.join(ID), text.as_bytes())?;
    sync_folder(path)
}

/// An id that no other store has.
fn new_id() -> u64 {
    rand::random_range(1..=u64::MAX)
}

/// From format 1 to 2: gives the store its id. Afterwards no commit without it is in any journal, so each that is found
/// there without the id is from elsewhere. A crash on the way leaves format 1, whose commits are taken with any id.
fn give_id(path: &Path) -> Result<(), OpenError> {
    let (engine, mut mark, state) = open_engine(path, config::Store::default().buffer, None)?;
    let state = StateRecord {
        store: new_id(),
        ..state.next()
    };
    let written = engine
        .write(vec![state.change()])
        .and_then(|()| engine.sync())
        .and_then(|()| engine.write_tables());
    written.map_err(|error| engine_error(path, error))?;
    drop(engine);
    let mut finish = || {
        let reached = Reached::all(state);
        mark.write(reached)?;
        mark.write(reached)?;
        mark.sync()?;
        empty_journals(path)?;
        write_id(path, state.store)
    };
    finish().map_err(unusable(path))
}

/// Makes the names in a folder last, where the system can.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(path)?.sync_all()?;
    }
    Ok(())
}

/// A path without a parent of its own begins where the process was started.
fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => sync_folder(Path::new(".")),
    }
}

fn migrate(path: &Path, found: u32, migrations: &[Migration]) -> Result<(), OpenError> {
    let known = migrations.len() + 1;
    let done = (found as usize).saturating_sub(1);
    let Some(steps) = migrations.get(done..) else {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found,
            known: u32::try_from(known).unwrap_or(u32::MAX),
        });
    };
    for (number, step) in (done + 2..).zip(steps) {
        step(path)?;
        write_format(path, number).map_err(unusable(path))?;
    }
    Ok(())
}

/// Makes an empty store. The format is written last: what is there without it is from an earlier try.
///
/// Its engine stays open. In a journal that it has begun itself it has set room aside; one that it finds it lets grow, and
/// then each sync has to write the file's length as well, which takes half as long again.
fn make(path: &Path, buffer: u64) -> Result<(Engine, Mark, StateRecord), OpenError> {
    regular::replace_synced(&path.join(MAKING), &[])
        .and_then(|()| sync_folder(path))
        .map_err(unusable(path))?;
    let folder = path.join(ENGINE);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(unusable(path)(error)),
        _ => {}
    }
    let engine = Engine::open(&folder, buffer).map_err(|error| engine_error(path, error))?;
    let mut mark = Mark::open(path).map_err(unusable(path))?;
    let state = StateRecord {
        store: new_id(),
        ..StateRecord::default()
    };
    let mut begin = || {
        regular::replace(&path.join(BOOT), boot().as_bytes())?;
        // Both slots, so that there is room for them from now on.
        mark.write(Reached::all(state))?;
        mark.write(Reached::all(state))?;
        mark.sync()?;
        write_id(path, state.store)?;
        write_format(path, MIGRATIONS.len() + 1)
    };
    begin().map_err(unusable(path))?;
    Ok((engine, mark, state))
}

/// Opens the engine, after making sure that it will lose nothing, and that its files are those of the store with this
/// `id`. Without an id it takes those of any.
///
/// # Errors
///
/// When it would lose something, or has; and when a file is of another store.
pub fn open_engine(
    path: &Path,
    buffer: u64,
    id: Option<u64>,
) -> Result<(Engine, Mark, StateRecord), OpenError> {
    let folder = path.join(ENGINE);
    let reached = match mark::read(path).map_err(unusable(path))? {
        Found::Reached(reached) => reached,
        Found::Missing | Found::Unreadable => {
            return Err(damaged(path, "its file \"mark\" can't be read"));
        }
    };
    if let Some(id) = id.filter(|&id| reached.store != id) {
        // Two of three tell which one is the stranger.
        let rest = journal::scan(&folder, Some(reached.store));
        let entry = match rest {
            Ok(journals) if journals.commits.is_some() => ID,
            _ => mark::NAME,
        };
        return Err(foreign(path, Path::new(entry), id, reached.store));
    }
    // What was only written is gone when the machine stops, and only then.
    let expected = if is_same_boot(path) {
        reached.written
    } else {
        reached.synced
    };
    restore(path).map_err(unusable(path))?;
    manifest::check(&folder).map_err(|error| match error {
        ManifestError::Io(error) => unusable(path)(error),
        error => damaged(path, error),
    })?;
    check_changed_tables(path, &folder)?;
    let journals = journal::scan(&folder, id).map_err(|error| match error {
        JournalError::Io(error) => unusable(path)(error),
        JournalError::Foreign { path: at, found } => {
            let entry = at.strip_prefix(path).unwrap_or(&at);
            foreign(path, entry, id.unwrap_or_default(), found)
        }
        error => damaged(path, error),
    })?;
    let mut kept = Vec::new();
    match journals.commits {
        Some((_, last)) => check_reached(path, expected, last)?,
        // Then only the engine knows which commit was the last.
        None => {
            for torn in &journals.torn {
                kept.push(keep(path, torn).map_err(unusable(path))?);
            }
        }
    }
    for torn in &journals.torn {
        journal::cut(torn).map_err(unusable(path))?;
    }
    let opened = surviving(path, || {
        let engine = Engine::open(&folder, buffer).map_err(|error| engine_error(path, error))?;
        let state = engine.view().state();
        let state = state.map_err(|error| damaged(path, error))?;
        match id {
            // Before the first commit there is none that could carry it.
            Some(id) if state.commits == 0 => {
                check_reached(path, expected, 0)?;
                return Ok((engine, StateRecord { store: id, ..state }));
            }
            // The journals were looked at above, so it is from the tables.
            Some(id) if state.store != id => {
                let entry = Path::new(ENGINE).join(survey::KEYSPACES);
                return Err(foreign(path, &entry, id, state.store));
            }
            _ => {}
        }
        check_reached(path, expected, state.commits)?;
        check_tables(path, &engine, id, &journals)?;
        Ok((engine, state))
    });
    if opened.is_err() {
        restore(path).map_err(unusable(path))?;
    }
    let (engine, state) = opened.map_err(OpenError::of_engine)?;
    for torn in &journals.torn {
        tracing::warn!(
            journal = %torn.path.strip_prefix(path).unwrap_or(&torn.path).display(),
            at = torn.at,
            "a journal ends with a commit that is not complete, and was never acknowledged: it is left out"
        );
    }
    if state.commits < reached.written {
        tracing::warn!(
            commits = reached.written - state.commits,
            "the newest commits are gone: the machine stopped before they were synced"
        );
    }
    let begin = || {
        for kept in kept {
            fs::remove_file(kept)?;
        }
        regular::replace(&path.join(BOOT), boot().as_bytes())?;
        let mut mark = Mark::open(path)?;
        // The engine has synced what it found. Both slots, so that none says more than there is.
        let reached = Reached::all(state);
        mark.write(reached)?;
        mark.write(reached)?;
        Ok(mark)
    };
    Ok((engine, begin().map_err(unusable(path))?, state))
}

/// Opens an engine, and takes a panic of it for what it is: damage that no check before has found. A build with the
/// engine's debug assertions panics where others report an error.
///
/// Nothing that the panic has left half done is seen: all that `open` makes goes with it.
fn surviving<T>(path: &Path, open: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let why = text.unwrap_or("it does not say why");
        Err(damaged(
            path,
            format!("the engine has given up over it ({why})"),
        ))
    })
}

/// Which start of the machine this is, where the system says it.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// Whether the machine runs on since the store was opened last.
fn is_same_boot(path: &Path) -> bool {
    let then = regular::read(&path.join(BOOT)).unwrap_or_default();
    !then.is_empty() && then == boot().as_bytes()
}

/// Makes sure that no table was put in the place of another since the mark was written last. In a private copy the mark is
/// newer than every table, and whoever looks into it reads them all.
fn check_changed_tables(path: &Path, engine: &Path) -> Result<(), OpenError> {
    let mark = fs::metadata(mark::path(path)).and_then(|mark| mark.modified());
    let altered = manifest::altered_tables(engine, Some(mark.map_err(unusable(path))?));
    let altered = altered.map_err(|error| match error {
        ManifestError::Io(error) => unusable(path)(error),
        error => damaged(path, error),
    })?;
    match altered.first() {
        None => Ok(()),
        Some(table) => Err(damaged(path, not_what_was_written(table))),
    }
}

/// What is said of a table that is not the one in the engine's list.
pub fn not_what_was_written(table: &Path) -> String {
    format!(
        "{} is not what was written: it is damaged, or of another store",
        table.display()
    )
}

/// Makes sure that the tables are of this store, and that the commits in the journals follow theirs: else the tables are
/// of another time, or the journals are.
fn check_tables(
    path: &Path,
    engine: &Engine,
    id: Option<u64>,
    journals: &Journals,
) -> Result<(), OpenError> {
    let found = engine.state_in_tables();
    let Some(found) = found.map_err(|error| damaged(path, error))? else {
        return Ok(());
    };
    if let Some(id) = id.filter(|&id| found.commits > 0 && found.store != id) {
        let entry = Path::new(ENGINE).join(survey::KEYSPACES);
        return Err(foreign(path, &entry, id, found.store));
    }
    match journals.commits {
        Some((first, _)) if first > found.commits + 1 => {
            let last = found.commits;
            let why =
                format!("its tables end with commit {last}, and its journals begin with {first}");
            Err(damaged(path, why))
        }
        _ => Ok(()),
    }
}

fn foreign(path: &Path, entry: &Path, id: u64, found: u64) -> OpenError {
    OpenError::Foreign {
        path: path.to_owned(),
        entry: entry.to_owned(),
        id,
        found,
    }
}

fn check_reached(path: &Path, expected: u64, commits: u64) -> Result<(), OpenError> {
    if commits >= expected {
        return Ok(());
    }
    let why = format!("it had {expected} commits, and {commits} are left");
    Err(damaged(path, why))
}

/// Copies a journal beside the engine's folder. A copy that is not complete has another name.
fn keep(path: &Path, torn: &Torn) -> io::Result<PathBuf> {
    let name = torn.path.file_name().unwrap_or_default();
    let kept = path.join(name).with_added_extension(KEPT);
    let copy = regular::unfinished(&kept);
    regular::remove_if_there(&copy)?;
    let mut from = regular::open(&torn.path, OpenOptions::new().read(true))?;
    let mut to = regular::create_new(&copy)?;
    io::copy(&mut from, &mut to)?;
    to.sync_all()?;
    fs::rename(copy, &kept)?;
    sync_folder(path)?;
    Ok(kept)
}

/// Brings back the journals that were kept, also after a crash.
fn restore(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let kept = entry?.path();
        if kept.extension().is_some_and(|extension| extension == KEPT) {
            let name = kept.file_stem().unwrap_or_default();
            fs::rename(&kept, path.join(ENGINE).join(name))?;
        }
    }
    Ok(())
}

/// The secret that signs tokens; a new store gets one.
///
/// # Errors
///
/// When it can't be read or written.
pub fn signing_key(
    path: &Path,
    engine: &Engine,
    state: StateRecord,
) -> Result<(StateRecord, [u8; 32]), OpenError> {
    let found: Option<SecretRecord> = engine
        .view()
        .get(SIGNING_KEY)
        .map_err(|error| damaged(path, error).of_engine())?;
    if let Some(found) = found {
        let key = found.secret.try_into();
        let key =
            key.map_err(|_| damaged(path, "its signing key has a wrong length").of_engine())?;
        return Ok((state, key));
    }
    let key: [u8; 32] = rand::random();
    let secret = SecretRecord {
        secret: key.to_vec(),
    };
    let state = state.next();
    let sealed = secret.seal(SIGNING_KEY, &mut Vec::new());
    let written = engine.write(vec![(SIGNING_KEY.into(), Some(sealed)), state.change()]);
    let synced = written.and_then(|()| engine.sync());
    synced.map_err(|error| engine_error(path, error))?;
    engine.publish();
    Ok((state, key))
}

/// Cuts off what an engine that is closed has written after a commit.
///
/// # Errors
///
/// What the system says.
pub fn cut_after(path: &Path, commit: u64) -> Result<(), OpenError> {
    journal::cut_after(&path.join(ENGINE), commit).map_err(unusable(path))
}

/// Empties the journals of an engine that is closed and has written all its tables: there is nothing in them that the
/// next opening would need, and reading them takes time.
///
/// # Errors
///
/// What the system says.
pub fn empty_journals(path: &Path) -> io::Result<()> {
    for (_, journal) in journal::paths(&path.join(ENGINE))? {
        let file = regular::open(&journal, OpenOptions::new().write(true))?;
        file.set_len(0)?;
        file.sync_all()?;
    }
    Ok(())
}

fn engine_error(path: &Path, error: fjall::Error) -> OpenError {
    match error {
        fjall::Error::Locked => OpenError::InUse(path.to_owned()),
        fjall::Error::Io(error) => unusable(path)(error),
        // It does so for want of room too, for example while the folder is brought to a newer format.
        fjall::Error::Poisoned => unusable(path)(io::Error::other(in_words(&error))),
        error => damaged(path, EngineError::from(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn note(path: &Path, line: &str) -> io::Result<()> {
        let mut notes = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path.join("notes"))?;
        writeln!(notes, "{line}")
    }

    fn first(path: &Path) -> Result<(), OpenError> {
        note(path, "1 to 2").map_err(unusable(path))
    }

    fn second(path: &Path) -> Result<(), OpenError> {
        note(path, "2 to 3").map_err(unusable(path))
    }

    fn failing(path: &Path) -> Result<(), OpenError> {
        Err(unusable(path)(io::Error::other("on purpose")))
    }

    #[test]
    fn an_older_format_is_brought_up_step_by_step() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        write_format(path, 1).unwrap();
        migrate(path, 1, &[first, second]).unwrap();
        assert_eq!(
            fs::read_to_string(path.join("notes")).unwrap(),
            "1 to 2\n2 to 3\n"
        );
        assert_eq!(read_format(path).unwrap(), Some(3));
        // Nothing is done twice.
        migrate(path, 3, &[first, second]).unwrap();
        assert_eq!(
            fs::read_to_string(path.join("notes")).unwrap(),
            "1 to 2\n2 to 3\n"
        );
        let refused = migrate(path, 3, &[first]).unwrap_err().to_string();
        assert!(
            refused.contains("has format 3") && refused.contains("up to 2"),
            "{refused}"
        );
    }

    #[test]
    fn a_panic_of_the_engine_is_damage() {
        let opened = surviving(Path::new("data"), || {
            assert_eq!(1, 2, "a check of the engine");
            Ok(())
        });
        let why = opened.unwrap_err().to_string();
        assert!(
            why.starts_with("data is damaged") && why.contains("a check of the engine"),
            "{why}"
        );
    }

    #[test]
    fn a_step_that_fails_is_tried_again_from_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        write_format(path, 1).unwrap();
        assert!(migrate(path, 1, &[first, failing]).is_err());
        assert_eq!(read_format(path).unwrap(), Some(2));
        migrate(path, 2, &[first, second]).unwrap();
        assert_eq!(
            fs::read_to_string(path.join("notes")).unwrap(),
            "1 to 2\n2 to 3\n"
        );
    }
}
