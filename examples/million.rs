//! A million messages for one user in a folder: how fast they are stored and read, how much memory that takes, and how
//! long it takes to open the folder again, after a kill and after a close.
//!
//! `cargo run --release --example million [MESSAGES]`. A second process stores the messages, and aborts when the last
//! one is stored.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use imd::config;
use imd::id::{MsgId, Uid, Version};
use imd::store::{DurableStore, Kind, Message, MessageStore, PageLimit, StoreAdmin, Write};
use tokio::task::JoinSet;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const RECEIVER: Uid = Uid(1);
const SENDERS: usize = 64;
/// How many messages are stored in one batch: the messages of one read of a socket.
const BATCH: usize = 16;
const TEXT: usize = 100;
const PAGE: usize = 50;
const PAGES: i64 = 2_000;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [command, folder, messages] = args.as_slice() {
        assert_eq!(command, "fill");
        return fill(Path::new(folder), messages.parse()?).await;
    }
    let messages: i64 = args.first().map_or(Ok(1_000_000), |arg| arg.parse())?;
    let folder = tempfile::tempdir()?;
    let status = Command::new(std::env::current_exe()?)
        .arg("fill")
        .arg(folder.path())
        .arg(messages.to_string())
        .status()?;
    assert!(!status.success(), "it ends as a crash does");

    let (store, took) = open(folder.path())?;
    println!("open again after the kill    {took:>9.0?}");
    let total = store.inbox_state(RECEIVER).await?.total;
    assert_eq!(total, messages);
    let begun = Instant::now();
    first_page(&store).await?;
    println!("its first page               {:>9.0?}", begun.elapsed());
    pages(&store, messages).await?;
    println!("memory after the pages       {:>9}", memory());
    store.close().await?;
    drop(store);
    let (store, took) = open(folder.path())?;
    println!("open again after a close     {took:>9.0?}");
    store.close().await?;
    Ok(())
}

fn open(folder: &Path) -> Result<(DurableStore, Duration)> {
    let begun = Instant::now();
    let store = DurableStore::open(folder, &config::Store::default())?;
    Ok((store, begun.elapsed()))
}

/// Stores the messages, each batch synced to the disk before its answer, and aborts the process.
async fn fill(folder: &Path, messages: usize) -> Result<()> {
    let (store, _) = open(folder)?;
    let store = Arc::new(store);
    let begun = Instant::now();
    let tenth = messages.div_ceil(10);
    let mut done = 0;
    while done < messages {
        let until = messages.min(done + tenth);
        let mut senders = JoinSet::new();
        for sender in 0..SENDERS {
            let ids: Vec<usize> = (done..until).skip(sender).step_by(SENDERS).collect();
            senders.spawn(send(Arc::clone(&store), sender, ids));
        }
        while let Some(sent) = senders.join_next().await {
            sent??;
        }
        done = until;
        println!("memory at {done:>9} messages {:>9}", memory());
    }
    let rate = messages as f64 / begun.elapsed().as_secs_f64();
    println!("stored, each synced          {rate:>7.0}/s");
    std::process::abort();
}

async fn send(store: Arc<DurableStore>, sender: usize, ids: Vec<usize>) -> Result<()> {
    let source = Uid(i64::try_from(sender)? + 2);
    for batch in ids.chunks(BATCH) {
        let text = "x".repeat(TEXT);
        let write = |id: &usize| Write::P2p {
            target: RECEIVER,
            message: Arc::new(Message::new(
                Kind::P2p,
                source,
                None,
                MsgId(&id.to_string()),
                &text,
                1,
            )),
        };
        let committed = store.commit(batch.iter().map(write).collect()).await?;
        assert!(committed.results.iter().all(std::result::Result::is_ok));
    }
    Ok(())
}

/// Reads the first page of the inbox.
async fn first_page(store: &DurableStore) -> Result<()> {
    let limit = PageLimit {
        entries: PAGE,
        bytes: 65_535,
    };
    let page = store.read_page(RECEIVER, Version(0), limit).await?;
    assert_eq!(page.entries.len(), PAGE);
    Ok(())
}

/// Reads pages from all parts of the inbox.
async fn pages(store: &DurableStore, total: i64) -> Result<()> {
    let limit = PageLimit {
        entries: PAGE,
        bytes: 65_535,
    };
    let begun = Instant::now();
    for n in 0..PAGES {
        let after = n * 7_919 % (total - i64::try_from(PAGE)?);
        let page = store.read_page(RECEIVER, Version(after), limit).await?;
        assert_eq!(page.entries.len(), PAGE);
    }
    let each = begun.elapsed() / u32::try_from(PAGES)?;
    println!("a page of {PAGE}                 {each:>9.0?}");
    Ok(())
}

/// Returns the resident memory of this process.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    resident.map_or("unknown".into(), |kb| kb.trim().to_owned())
}
