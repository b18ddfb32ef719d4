//! The file `mark`: a checkpoint of how far the commits have come, beside the engine's own files.
//!
//! Serves the writer, which writes it after each commit, and `folder`, which compares it with the engine at the next
//! start. An engine that finds a damaged record in its journal may take it for the end and open without what follows.
//! An engine that holds fewer commits than the checkpoint says has lost some.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::layout::CHECKPOINT;
use super::record::StateRecord;
use super::safe_files;

/// The number of slots. They are written in turn, and each is in a page of its own, so that one of them is whole
/// whatever happens to the other.
const SLOTS: u64 = 2;
/// The distance between two slots, in bytes.
const SLOT: u64 = 4_096;
/// The length of the two numbers of commits and their checksum. The store's id and a checksum over all follow.
const NUMBERS: usize = 24;
/// The length of the contents of a slot, in bytes.
const LEN: usize = NUMBERS + 16;

/// How far the commits have come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The number of the newest commit that is on the disk.
    pub synced: u64,
    /// The number of the newest commit that the operating system has.
    pub written: u64,
    /// The id of the store; 0 in format 1, which had none.
    pub store_id: u64,
}

impl Checkpoint {
    /// Returns the checkpoint of a disk that has every commit up to this state.
    pub fn all(state: StateRecord) -> Self {
        Checkpoint {
            synced: state.last_commit,
            written: state.last_commit,
            store_id: state.store_id,
        }
    }

    fn to_slot(self) -> [u8; LEN] {
        let mut slot = Vec::with_capacity(LEN);
        slot.extend(self.synced.to_le_bytes());
        slot.extend(self.written.to_le_bytes());
        slot.extend(xxh3_64(&slot).to_le_bytes());
        if self.store_id != 0 {
            slot.extend(self.store_id.to_le_bytes());
            slot.extend(xxh3_64(&slot).to_le_bytes());
        }
        let mut whole = [0; LEN];
        whole.iter_mut().zip(slot).for_each(|(to, byte)| *to = byte);
        whole
    }

    fn from_slot(slot: &[u8]) -> Option<Self> {
        let (numbers, rest) = slot.split_first_chunk::<NUMBERS>()?;
        let (commits, check) = numbers.split_last_chunk()?;
        let (synced, written) = commits.split_at(8);
        // Format 1 had no id.
        let (id, id_check) = match rest.split_first_chunk::<16>() {
            Some((rest, _)) => (rest.first_chunk()?, rest.last_chunk()?),
            None => (&[0; 8], &[0; 8]),
        };
        let checkpoint = Checkpoint {
            synced: u64::from_le_bytes(synced.try_into().ok()?),
            written: u64::from_le_bytes(written.try_into().ok()?),
            store_id: u64::from_le_bytes(*id),
        };
        let is_whole = u64::from_le_bytes(*check) == xxh3_64(commits)
            && match checkpoint.store_id {
                0 => *id_check == [0; 8],
                _ => u64::from_le_bytes(*id_check) == xxh3_64(slot.get(..LEN - 8)?),
            };
        is_whole.then_some(checkpoint)
    }
}

/// The file, open for writing.
#[derive(Debug)]
pub struct CheckpointFile {
    file: File,
    next_slot: u64,
}

/// Returns the path of the file in a store's folder.
pub fn path(folder: &Path) -> PathBuf {
    folder.join(CHECKPOINT)
}

impl CheckpointFile {
    /// Opens the file, and creates it if it is missing.
    ///
    /// # Errors
    ///
    /// The error of the system, when the file can't be opened or is not a regular one.
    pub fn open(folder: &Path) -> io::Result<CheckpointFile> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false);
        let file = safe_files::open(&path(folder), options)?;
        Ok(CheckpointFile { file, next_slot: 0 })
    }

    /// Writes how far the commits have come. The file need not be synced: an older checkpoint only says less.
    ///
    /// # Errors
    ///
    /// The error of the system, when the file can't be written.
    pub fn write(&mut self, checkpoint: Checkpoint) -> io::Result<()> {
        write_at(&mut self.file, &checkpoint.to_slot(), self.next_slot * SLOT)?;
        self.next_slot = (self.next_slot + 1) % SLOTS;
        Ok(())
    }

    /// Brings the file to the disk.
    ///
    /// # Errors
    ///
    /// The error of the system, when the file can't be synced.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

/// Writes in one system call on systems that have one for it, because each commit does this.
#[cfg(unix)]
fn write_at(file: &mut File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(not(unix))]
fn write_at(file: &mut File, bytes: &[u8], offset: u64) -> io::Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}

/// The checkpoint that a folder has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The file is missing.
    Missing,
    /// The file has no whole slot.
    Unreadable,
    /// The newest whole slot.
    Checkpoint(Checkpoint),
}

/// Reads the checkpoint of a folder.
///
/// # Errors
///
/// The error of the system, when the file exists and can't be read.
pub fn read(folder: &Path) -> io::Result<Found> {
    let mut bytes = Vec::new();
    match safe_files::open(&path(folder), OpenOptions::new().read(true)) {
        Ok(file) => file.take(SLOTS * SLOT).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
        Err(error) => return Err(error),
    };
    let slots = bytes.chunks(usize::try_from(SLOT).unwrap_or(usize::MAX));
    let newest = slots
        .filter_map(Checkpoint::from_slot)
        .max_by_key(|checkpoint| checkpoint.written);
    Ok(newest.map_or(Found::Unreadable, Found::Checkpoint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_what_was_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), Found::Missing);
        let mut file = CheckpointFile::open(folder.path()).unwrap();
        assert_eq!(read(folder.path()).unwrap(), Found::Unreadable);
        for written in 1..=5 {
            let checkpoint = Checkpoint {
                synced: written / 2,
                written,
                // The first is one of format 1.
                store_id: written - 1,
            };
            file.write(checkpoint).unwrap();
            assert_eq!(read(folder.path()).unwrap(), Found::Checkpoint(checkpoint));
        }
    }

    #[test]
    fn a_damaged_slot_leaves_the_other() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = CheckpointFile::open(folder.path()).unwrap();
        for written in 1..=4 {
            file.write(Checkpoint {
                synced: written,
                written,
                store_id: 7,
            })
            .unwrap();
        }
        let whole = std::fs::read(path(folder.path())).unwrap();
        for bit in 0..LEN * 8 {
            let mut bytes = whole.clone();
            bytes[4_096 + bit / 8] ^= 1 << (bit % 8);
            std::fs::write(path(folder.path()), &bytes).unwrap();
            let left = Checkpoint {
                synced: 3,
                written: 3,
                store_id: 7,
            };
            assert_eq!(read(folder.path()).unwrap(), Found::Checkpoint(left));
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(path(folder.path()), &bytes).unwrap();
            assert_eq!(read(folder.path()).unwrap(), Found::Unreadable);
        }
    }
}
