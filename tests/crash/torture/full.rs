//! A store whose journal is nearly full. Copies of it are killed while the engine goes on in a new journal.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use imd::Client;
use tokio::runtime::Builder;

use super::daemon::Started;
use super::folder::{Failure, Folder, STORE, Setup, Tally};
use super::kill::Kill;
use super::load::USERS;
use super::wire::salted;

/// The engine begins a new journal when so much is in the old one, and it writes a table.
const FULL: usize = 64_000_000;

/// The longest message, and so many of them go into the journal: a little more than what fits.
const TEXT: usize = 32_768;
const BALLAST: usize = FULL / TEXT + 20;

/// A folder to be copied.
pub struct Full {
    store: PathBuf,
    setup: Setup,
}

impl Full {
    /// Fills a journal, for a user whom nobody reads.
    pub fn make(root: PathBuf, setup: &Setup) -> Result<Full, Failure> {
        let setup = Setup {
            has_small_buffer: false,
            ..setup.clone()
        };
        let mut folder = Folder::new(root, &setup, 0)?;
        let Started::Ready(mut daemon) = folder.start(Vec::new())? else {
            return Err(Failure::Harness("an empty folder was not taken".into()));
        };
        let access = daemon.places.access[0];
        let (from, to) = (USERS.end() + 1, USERS.end() + 2);
        let filled = Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(async {
                let mut client = Client::connect_to(access).await?;
                client.login(from, &salted(from)).await?;
                let text = "x".repeat(TEXT);
                for _ in 0..BALLAST {
                    client.send_p2p(to, &text).await?;
                }
                Ok::<_, imd::client::ClientError>(())
            });
        filled.map_err(|error| Failure::Harness(format!("no journal was filled: {error}")))?;
        daemon.kill();
        daemon.end()?;
        Ok(Full {
            store: folder.store().to_owned(),
            setup,
        })
    }

    /// Removes the folder.
    pub fn remove(self) {
        // Files that can't be removed are left to the system.
        let _ = self.store.parent().map(fs::remove_dir_all);
    }

    /// Kills a copy while it changes journals, and checks what is left.
    pub fn rotate(&self, root: PathBuf, seed: u64) -> Result<Tally, Failure> {
        // The copy flushes small tables.
        let setup = Setup {
            has_small_buffer: true,
            ..self.setup.clone()
        };
        copy(&self.store, &root.join(STORE))?;
        let mut folder = Folder::new(root, &setup, seed)?;
        folder.live(Kill::InRotation)?;
        folder.last_look()?;
        fs::remove_dir_all(&folder.root)?;
        Ok(folder.tally)
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
