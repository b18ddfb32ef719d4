//! A store whose journal is nearly full. Copies of it are killed while the engine begins a new journal.
//!
//! Serves the campaign: filling a journal takes long, so it is done once, and each kill in a change of journals begins with a
//! copy.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use imd::Client;
use tokio::runtime::Builder;

use super::connection::salted_token;
use super::daemon::Started;
use super::folder::{Counts, Failure, Folder, STORE, Setup};
use super::kill::Kill;
use super::load::USERS;

/// The size of a journal, in bytes, from which on the engine begins a new one when it next writes a table.
const JOURNAL_SIZE: usize = 64_000_000;

/// The length of the longest text that a message may have.
const TEXT: usize = 32_768;

/// How many messages fill a journal: a little more than fit.
const MESSAGES: usize = JOURNAL_SIZE / TEXT + 20;

/// A store whose next table brings a new journal.
pub struct FullJournal {
    /// The folder of the store, which is copied for each kill.
    store: PathBuf,
    setup: Setup,
}

impl FullJournal {
    /// Fills a journal with messages to a user whose inbox the checker does not read.
    pub fn make(root: PathBuf, setup: &Setup) -> Result<FullJournal, Failure> {
        let setup = Setup {
            has_small_buffer: false,
            ..setup.clone()
        };
        let mut folder = Folder::new(root, &setup, 0)?;
        let Started::Ready(mut daemon) = folder.start(Vec::new())? else {
            return Err(Failure::Harness(
                "the program did not start on an empty folder".into(),
            ));
        };
        let access = daemon.addrs.access[0];
        let (from, to) = (USERS.end() + 1, USERS.end() + 2);
        let filled = Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(async {
                let mut client = Client::connect_to(access).await?;
                client.login(from, &salted_token(from)).await?;
                let text = "x".repeat(TEXT);
                for _ in 0..MESSAGES {
                    client.send_p2p(to, &text).await?;
                }
                Ok::<_, imd::client::ClientError>(())
            });
        filled.map_err(|error| {
            Failure::Harness(format!("the journal could not be filled: {error}"))
        })?;
        daemon.kill();
        daemon.end()?;
        Ok(FullJournal {
            store: folder.store().to_owned(),
            setup,
        })
    }

    /// Removes the store.
    pub fn remove(self) {
        // Files that can't be removed stay in the folder for temporary files.
        let _ = self.store.parent().map(fs::remove_dir_all);
    }

    /// Copies the store to `root`, kills the program on the copy while it changes journals, and checks what is left.
    pub fn kill_copy(&self, root: PathBuf, seed: u64) -> Result<Counts, Failure> {
        // With a small buffer the engine writes a table soon, and with it changes journals.
        let setup = Setup {
            has_small_buffer: true,
            ..self.setup.clone()
        };
        copy(&self.store, &root.join(STORE))?;
        let mut folder = Folder::new(root, &setup, seed)?;
        folder.run_until(Kill::InRotation)?;
        folder.final_check()?;
        fs::remove_dir_all(&folder.root)?;
        Ok(folder.counts)
    }
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
