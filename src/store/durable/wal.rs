//! Reads the engine's journals (its write-ahead log) before the engine does.
//!
//! Serves `folder`, which opens the engine, and `folder_guard`, which looks for the newest journal. The engine takes
//! the first record that it can't read for the end of its journal, and cuts off what follows. That is right for a
//! commit that a crash interrupted, and loses commits where a bit has flipped in the middle. So [`scan`] reads the
//! journals first, without a change: their commits must follow one another up to the one in the checkpoint.
//!
//! A journal is a sequence of batches, one for each commit. A batch is a start (tag 1, number of items, sequence
//! number), its items (tag 2) and an end (tag 3, checksum over the items, trailer). Numbers are little-endian. Space
//! that was set aside and is not used yet is zero.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use bytes::Buf;
use xxhash_rust::xxh3::Xxh3;

use super::record::{Record, STATE, StateRecord};
use super::safe_files;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;

/// The last bytes of a batch.
const TRAILER: [u8; 4] = *b"FJL\x03";

/// The length of the fixed part of an item after its tag: value type, compression, keyspace (u64), length of the key
/// (u16), of the value (u32) and of the compressed value (u32).
const ITEM_HEADER: usize = 20;

/// The highest type of a value: 0 is a value, 1 and 2 are tombstones.
const MAX_VALUE_TYPE: u8 = 2;

/// The contents of the journals of a folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct WalContents {
    /// The numbers of the first and the last commit, if there is one.
    pub commit_range: Option<(u64, u64)>,
    /// The journals that don't end with a whole batch.
    pub torn: Vec<TornWal>,
}

/// A journal that doesn't end with a whole batch.
#[derive(Debug, PartialEq, Eq)]
pub struct TornWal {
    pub path: PathBuf,
    /// Where the last whole batch ends, in bytes.
    pub at: u64,
}

/// Why the journals are not what the engine wrote.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// A journal can't be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A journal was written for the store with the id `found`.
    #[error("{} is of the store {found:016x}", .path.display())]
    Foreign { path: PathBuf, found: u64 },
    /// The batches of a journal don't follow one another; the text says what is wrong.
    #[error("in {}, at byte {at}, {why}", .path.display())]
    Damaged {
        path: PathBuf,
        /// Where the first batch begins that does not fit.
        at: u64,
        why: String,
    },
}

/// Reads these journals, the oldest first. Their commits have to carry `id`, or any id if there is none.
///
/// # Errors
///
/// When a journal can't be read or is of another store, or when its commits don't follow one another.
pub fn scan(paths: &[PathBuf], id: Option<u64>) -> Result<WalContents, WalError> {
    let mut journals = WalContents::default();
    let mut sequence = None;
    for path in paths {
        let mut file = WalReader::open(path)?;
        let damaged = |at, why: String| WalError::Damaged {
            path: path.clone(),
            at,
            why,
        };
        loop {
            let at = file.whole;
            let Some(batch) = file.next()? else { break };
            // The id is compared first, because the numbers of another store's commits say nothing.
            if let (Some(id), Some(state)) = (id, batch.state)
                && state.store_id != id
            {
                let (path, found) = (path.clone(), state.store_id);
                return Err(WalError::Foreign { path, found });
            }
            // The engine would skip a batch with a sequence number that it has passed.
            if sequence.is_some_and(|last| batch.sequence <= last) {
                return Err(damaged(at, "its batches are out of order".into()));
            }
            sequence = Some(batch.sequence);
            let Some(commit) = batch.commit() else {
                return Err(damaged(at, "a batch has no number".into()));
            };
            let (first, last) = journals
                .commit_range
                .unwrap_or((commit, commit.wrapping_sub(1)));
            if commit != last.wrapping_add(1) {
                return Err(damaged(at, format!("commit {commit} follows {last}")));
            }
            journals.commit_range = Some((first, commit));
        }
        if file.is_torn {
            // A torn end may be a commit that a crash interrupted, or one that was damaged. The numbers of the commits
            // tell which.
            journals.torn.push(TornWal {
                path: path.clone(),
                at: file.whole,
            });
        }
    }
    Ok(journals)
}

/// Cuts off every commit after `commit`. Those commits were written and never acknowledged.
///
/// # Errors
///
/// The error of the system, when a journal can't be read or cut.
pub fn cut_after(folder: &Path, commit: u64) -> io::Result<()> {
    for (_, path) in paths(folder)? {
        let mut file = WalReader::open(&path)?;
        let end = loop {
            let whole = file.whole;
            match file.next()? {
                Some(batch) if batch.commit() > Some(commit) => break Some(whole),
                Some(_) => {}
                None if file.is_torn => break Some(whole),
                None => break None,
            }
        };
        if let Some(at) = end {
            cut(&TornWal { path, at })?;
        }
    }
    Ok(())
}

/// Cuts off the end of a journal that is no whole batch.
///
/// # Errors
///
/// The error of the system, when the journal can't be opened, cut or synced.
pub fn cut(torn: &TornWal) -> io::Result<()> {
    let file = safe_files::open(&torn.path, OpenOptions::new().write(true))?;
    file.set_len(torn.at)?;
    file.sync_all()
}

/// Returns the journals in the engine's folder with their numbers, the oldest first.
///
/// # Errors
///
/// The error of the system, when the folder can't be read.
pub fn paths(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if let Some(number) = number(&path) {
            paths.push((number, path));
        }
    }
    paths.sort();
    Ok(paths)
}

/// Returns the number of the journal at this path; none if its name is not that of a journal.
pub fn number(path: &Path) -> Option<u64> {
    let number = path.file_stem()?.to_str()?.parse().ok();
    number.filter(|_| path.extension().is_some_and(|ext| ext == "jnl"))
}

/// What is kept of a batch that was read.
struct WalBatch {
    sequence: u64,
    /// The state that its commit wrote.
    state: Option<StateRecord>,
}

impl WalBatch {
    /// Returns the number of its commit.
    fn commit(&self) -> Option<u64> {
        self.state.map(|state| state.last_commit)
    }
}

/// The lengths that the header of an item has, in bytes.
struct ItemLengths {
    key: u16,
    value: u32,
}

impl ItemLengths {
    /// Returns the lengths in a header; none if no item of the store has such a header. The store has no compressed
    /// values.
    fn of(header: &[u8; ITEM_HEADER]) -> Option<Self> {
        let mut header = header.as_slice();
        let value_type = header.get_u8();
        let compression = header.get_u8();
        let _keyspace = header.get_u64_le();
        let key = header.get_u16_le();
        let value = header.get_u32_le();
        let compressed = header.get_u32_le();
        let is_valid = value_type <= MAX_VALUE_TYPE && compression == 0 && value == compressed;
        is_valid.then_some(ItemLengths { key, value })
    }
}

/// Reads the batches of one journal.
struct WalReader {
    reader: BufReader<File>,
    /// How many bytes were read.
    at: u64,
    len: u64,
    /// Where the last whole batch ends.
    whole: u64,
    /// Whether the journal ends in the middle of a batch.
    is_torn: bool,
    /// The key and value of the last item. It is a field so that its memory is used again.
    item: Vec<u8>,
}

impl WalReader {
    fn open(path: &Path) -> io::Result<Self> {
        let file = safe_files::open(path, OpenOptions::new().read(true))?;
        Ok(WalReader {
            len: file.metadata()?.len(),
            reader: BufReader::with_capacity(1 << 16, file),
            at: 0,
            whole: 0,
            is_torn: false,
            item: Vec::new(),
        })
    }

    /// Reads the next batch. Returns none at the end, or where a batch is not whole.
    fn next(&mut self) -> io::Result<Option<WalBatch>> {
        if self.reader.fill_buf()?.first().is_none_or(|&tag| tag == 0) {
            // Space that was set aside is zero to the end of the file.
            self.is_torn = !self.is_zero_from_here()?;
            return Ok(None);
        }
        match self.batch() {
            Ok(Some(batch)) => {
                self.whole = self.at;
                Ok(Some(batch))
            }
            Ok(None) => {
                self.is_torn = true;
                Ok(None)
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                self.is_torn = true;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns whether the rest of the file is zero.
    fn is_zero_from_here(&mut self) -> io::Result<bool> {
        loop {
            let bytes = self.reader.fill_buf()?;
            if bytes.is_empty() {
                return Ok(true);
            }
            if bytes.iter().any(|&byte| byte != 0) {
                return Ok(false);
            }
            let read = bytes.len();
            self.reader.consume(read);
        }
    }

    /// Reads a batch. Returns none if it is not one, and the error `UnexpectedEof` if the file ends in the middle.
    fn batch(&mut self) -> io::Result<Option<WalBatch>> {
        let [START] = self.take()? else {
            return Ok(None);
        };
        let items = u32::from_le_bytes(self.take()?);
        let mut batch = WalBatch {
            sequence: u64::from_le_bytes(self.take()?),
            state: None,
        };
        let mut check = Xxh3::new();
        for _ in 0..items {
            let Some(key_len) = self.read_item(&mut check)? else {
                return Ok(None);
            };
            if let Some((STATE, value)) = self.item.split_at_checked(key_len) {
                batch.state = StateRecord::decode_checked(STATE, value).ok();
            }
        }
        let [END] = self.take()? else { return Ok(None) };
        let expected = u64::from_le_bytes(self.take()?);
        let trailer: [u8; 4] = self.take()?;
        Ok((expected == check.digest() && trailer == TRAILER).then_some(batch))
    }

    /// Reads an item into `self.item`, and adds it to the checksum. Returns the length of its key, which the value
    /// follows; none if it is no item.
    fn read_item(&mut self, check: &mut Xxh3) -> io::Result<Option<usize>> {
        let [ITEM] = self.take()? else {
            return Ok(None);
        };
        let header = self.take()?;
        let Some(lengths) = ItemLengths::of(&header) else {
            return Ok(None);
        };
        // Checked before memory is taken for the item, because a damaged length may be as large as 4 GiB.
        if u64::from(lengths.value) > self.len - self.at {
            return Ok(None);
        }
        let key_len = usize::from(lengths.key);
        self.item.resize(key_len + lengths.value as usize, 0);
        self.reader.read_exact(&mut self.item)?;
        self.at += self.item.len() as u64;
        check.update(&[ITEM]);
        check.update(&header);
        check.update(&self.item);
        Ok(Some(key_len))
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the batch of a commit that writes its state alone.
    fn batch(sequence: u64, commits: u64) -> Vec<u8> {
        let state = StateRecord {
            last_commit: commits,
            ..StateRecord::default()
        };
        let value = state.seal(STATE, &mut Vec::new());
        let len = u32::try_from(value.len()).unwrap();
        let mut item = vec![ITEM, 0, 0];
        item.extend(1_u64.to_le_bytes());
        item.extend(u16::try_from(STATE.len()).unwrap().to_le_bytes());
        item.extend(len.to_le_bytes());
        item.extend(len.to_le_bytes());
        item.extend(STATE);
        item.extend(&*value);
        let mut check = Xxh3::new();
        check.update(&item);
        let mut batch = vec![START];
        batch.extend(1_u32.to_le_bytes());
        batch.extend(sequence.to_le_bytes());
        batch.extend(item);
        batch.push(END);
        batch.extend(check.digest().to_le_bytes());
        batch.extend(TRAILER);
        batch
    }

    #[test]
    fn an_error_names_the_byte_at_which_the_wrong_batch_begins() {
        let folder = tempfile::tempdir().unwrap();
        let journal = [folder.path().join("0.jnl")];
        let first = batch(1, 1);
        let begin = first.len() as u64;
        for (sequence, commit) in [(2, 3), (1, 2)] {
            let bytes = [first.clone(), batch(sequence, commit)].concat();
            std::fs::write(&journal[0], bytes).unwrap();
            let error = scan(&journal, None).unwrap_err();
            assert!(
                matches!(error, WalError::Damaged { at, .. } if at == begin),
                "{error}"
            );
        }
        let whole = [first, batch(2, 2)].concat();
        std::fs::write(&journal[0], whole).unwrap();
        let journals = scan(&journal, None).unwrap();
        assert_eq!(journals.commit_range, Some((1, 2)));
    }
}
