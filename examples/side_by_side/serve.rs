//! The process under measurement: one server on one core. It says its addresses on stdout and ends with its stdin.

use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use imd::Imd;
use imd::config::Config;
use imd::id::{GroupId, MsgId, Uid};
use imd::store::{DurableStore, MemoryStore, Message, Retention, Store, Write};
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use crate::kind::Kind;
use crate::log::Log;
use crate::{Fault, affinity, echo, hub, mock, peers};

/// The one group.
pub const GROUP: i64 = 1;

/// The first of the users who never come.
const ABSENT: i64 = 2_000_000;
/// So many messages are stored at once.
const BATCH: usize = 1_000;

/// What a serving process is told.
#[derive(Debug, clap::Args)]
pub struct Serve {
    kind: Kind,
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Users from 1 to this are in group 1.
    #[arg(long, default_value_t = 0)]
    members: i64,
    /// So many messages are stored before anybody comes.
    #[arg(long, default_value_t = 0)]
    stored: u64,
}

pub fn run(serve: &Serve) -> Result<(), Fault> {
    if serve.kind.is_imd() && (serve.kind == Kind::WithoutLab) != cfg!(imd_without_lab) {
        return Err(format!("this is no build for {:?}", serve.kind).into());
    }
    affinity::pin(affinity::SERVER);
    if let Some(program) = serve.kind.broker() {
        let folder = serve.folder.as_deref().ok_or("no folder")?;
        let (mut command, addr) = peers::command(program, folder)?;
        say(&[addr, addr])?;
        command.stderr(Stdio::null());
        // It takes the place of this process, on its core.
        return Err(command.exec().into());
    }
    imd::listener::raise_file_limit();
    let runtime = match serve.kind {
        // What the real program does.
        kind if kind.is_imd() => imd::daemon::runtime()?,
        _ => Builder::new_current_thread().enable_all().build()?,
    };
    runtime.block_on(async {
        let _imd = match serve.kind {
            kind if kind.is_imd() => Some(start_imd(serve).await?),
            _ => {
                start_baseline(serve).await?;
                None
            }
        };
        tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await??;
        Ok::<_, Fault>(())
    })?;
    // Nothing is kept, so nobody has to wait for a clean end.
    std::process::exit(0)
}

async fn start_baseline(serve: &Serve) -> Result<(), Fault> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let addr = listener.local_addr()?;
    if serve.kind == Kind::Echo {
        tokio::spawn(echo::serve(listener));
    } else {
        hub::with(|hub| hub.members = (1..=serve.members).collect());
        let log = serve.folder.as_deref().map(Log::open).transpose()?;
        tokio::spawn(mock::serve(listener, log));
    }
    say(&[addr, addr])
}

async fn start_imd(serve: &Serve) -> Result<Imd, Fault> {
    // As the real program: what it would not log, it should not format either.
    tracing_subscriber::fmt()
        .with_env_filter("warn")
        .with_writer(std::io::stderr)
        .init();
    // The real config, on free ports: nothing is recorded while nobody reads it.
    let mut config = Config::default();
    config.any_port();
    config.limits.group_members = config.limits.group_members.max(serve.members as usize);
    let store = open(&config, serve.folder.as_deref())?;
    if serve.members > 0 {
        fill_group(store.as_ref(), serve.members).await?;
    }
    fill_inboxes(store.as_ref(), serve.stored).await?;
    let imd = Imd::start_with_store(config, store).await?;
    let mut addrs = vec![imd.gateway_addr()];
    addrs.extend(imd.access_servers().iter().map(|server| server.addr()));
    say(&addrs)?;
    Ok(imd)
}

fn open(config: &Config, folder: Option<&Path>) -> Result<Arc<dyn Store>, Fault> {
    Ok(match folder {
        Some(folder) => Arc::new(DurableStore::open(folder, &config.store)?),
        // A run may take all the memory that it needs.
        None => Arc::new(MemoryStore::new(usize::MAX, Retention::default())),
    })
}

async fn fill_group(store: &dyn Store, members: i64) -> Result<(), Fault> {
    let create = Write::CreateGroup {
        group: GroupId(GROUP),
        name: String::new(),
        owner: Uid(1),
        members: Vec::new(),
        made_at: 0,
    };
    let join = |uid| Write::Join {
        group: GroupId(GROUP),
        uids: vec![uid],
        most: members as usize,
    };
    let writes = std::iter::once(create).chain((2..=members).map(Uid).map(join));
    for result in store.commit(writes.collect()).await?.results {
        result?;
    }
    Ok(())
}

/// Messages for users who never come.
async fn fill_inboxes(store: &dyn Store, messages: u64) -> Result<(), Fault> {
    let text = "x".repeat(32);
    let write = |n: u64| {
        let message = Message::new(
            imd::store::Kind::P2p,
            Uid(1),
            None,
            MsgId(&n.to_string()),
            &text,
            1,
        );
        Write::P2p {
            target: Uid(ABSENT + (n % 100) as i64),
            message: Arc::new(message),
        }
    };
    for first in (0..messages).step_by(BATCH) {
        let batch = first..messages.min(first + BATCH as u64);
        for result in store.commit(batch.map(write).collect()).await?.results {
            result?;
        }
    }
    Ok(())
}

/// The gateway first, then the access servers.
fn say(addrs: &[SocketAddr]) -> Result<(), Fault> {
    let addrs: Vec<String> = addrs.iter().map(SocketAddr::to_string).collect();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", addrs.join(" "))?;
    Ok(out.flush()?)
}
