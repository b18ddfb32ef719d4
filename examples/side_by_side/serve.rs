//! The process that is measured: one server on one core, or on those that its row gives it.
//!
//! Serves [`server`](crate::server), which starts it. It prints its addresses to stdout when it listens, and ends when its
//! stdin is closed; a broker replaces it, and is killed. `imd` runs with the default config and the runtime of the program.

use std::io::{Read, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::SystemTime;

use imd::Imd;
use imd::config::Config;
use imd::id::{GroupId, MsgId, Uid};
use imd::load::pin;
use imd::store::{self, DurableStore, MemoryStore, Message, Retention, Store, Write};
use tokio::net::TcpListener;
use tokio::runtime::Builder;

use crate::carried::Carrier;
use crate::kind::Kind;
use crate::log::Log;
use crate::{Fault, carried, echo, hub, mock, peers};

/// The id of the only group.
pub const GROUP: i64 = 1;

/// The first of the users who never log in.
const ABSENT: i64 = 2_000_000;
/// How many messages are stored in one batch.
const BATCH: usize = 1_000;

/// The arguments of a serving process.
#[derive(Debug, clap::Args)]
pub struct Serve {
    kind: Kind,
    /// Where messages are kept; without it, in memory.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// What carries the connections of the clients.
    #[arg(long, value_enum, default_value_t)]
    carrier: Carrier,
    /// The folder of the certificate for TLS.
    #[arg(long)]
    certificate: Option<PathBuf>,
    /// A broker syncs messages before it acknowledges them.
    #[arg(long)]
    synced: bool,
    /// The users from 1 to this one are members of group 1.
    #[arg(long, default_value_t = 0)]
    members: i64,
    /// How many messages are stored before the first client connects.
    #[arg(long, default_value_t = 0)]
    stored: u64,
    /// The numbers of the cores that the server may use.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
}

pub fn run(serve: &Serve) -> Result<(), Fault> {
    if serve.kind.is_imd() && (serve.kind == Kind::WithoutLab) != cfg!(imd_without_lab) {
        return Err(format!("this is no build for {:?}", serve.kind).into());
    }
    pin(&serve.cores);
    if serve.kind.broker().is_some() {
        let folder = serve.folder.as_deref().ok_or("no folder")?;
        let (mut command, addr) = peers::command(serve.kind, serve.synced, folder)?;
        say(&[addr, addr])?;
        command.stdout(Stdio::null()).stderr(Stdio::null());
        // The broker replaces this process, and stays on its core.
        return Err(command.exec().into());
    }
    imd::listener::raise_file_limit();
    let runtime = match serve.kind {
        // The runtime of the program `imd`.
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
    // Nothing is kept, so a clean end would only take time.
    std::process::exit(0)
}

async fn start_baseline(serve: &Serve) -> Result<(), Fault> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let addr = listener.local_addr()?;
    if serve.carrier != Carrier::Tcp {
        let (carrier, certificate) = (serve.carrier, serve.certificate.clone());
        tokio::spawn(async move {
            if let Err(fault) = carried::echo(listener, carrier, certificate.as_deref()).await {
                eprintln!("{fault}");
            }
        });
    } else if serve.kind == Kind::Echo {
        tokio::spawn(echo::serve(listener));
    } else {
        hub::with(|hub| hub.members = (1..=serve.members).collect());
        let log = serve.folder.as_deref().map(Log::open).transpose()?;
        tokio::spawn(mock::serve(listener, log));
    }
    say(&[addr, addr])
}

async fn start_imd(serve: &Serve) -> Result<Imd, Fault> {
    // The log of the program `imd`. A message that it does not log is not formatted either.
    tracing_subscriber::fmt()
        .with_env_filter("warn")
        .with_writer(std::io::stderr)
        .init();
    // The default config, on free ports. It records frames only while somebody reads the journal, and nobody does.
    let mut config = Config::default();
    config.any_port();
    config.limits.group_members = config.limits.group_members.max(serve.members as usize);
    match serve.carrier {
        Carrier::Tcp => {}
        Carrier::Tls => {
            let folder = serve.certificate.as_deref().ok_or("no certificate")?;
            config.tls.cert = Some(folder.join("cert.pem"));
            config.tls.key = Some(folder.join("key.pem"));
        }
        Carrier::WebSocket => config.with_websockets(),
    }
    let store = open(&config, serve.folder.as_deref())?;
    if serve.members > 0 {
        fill_group(store.as_ref(), serve.members).await?;
    }
    fill_inboxes(store.as_ref(), serve.stored).await?;
    let imd = Imd::start_with_store(config, store).await?;
    let is_websocket = serve.carrier == Carrier::WebSocket;
    let ws = |addr, ws_addr: Option<SocketAddr>| ws_addr.filter(|_| is_websocket).unwrap_or(addr);
    let mut addrs = vec![ws(imd.gateway_addr(), imd.gateway_ws_addr())];
    let servers = imd.access_servers();
    addrs.extend(
        servers
            .iter()
            .map(|server| ws(server.addr(), server.ws_addr())),
    );
    say(&addrs)?;
    Ok(imd)
}

fn open(config: &Config, folder: Option<&Path>) -> Result<Arc<dyn Store>, Fault> {
    Ok(match folder {
        Some(folder) => Arc::new(DurableStore::open(folder, &config.store)?),
        // Without a limit, so that a run may take all the memory that it needs.
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
        max_members: members as usize,
    };
    let writes = std::iter::once(create).chain((2..=members).map(Uid).map(join));
    for result in store.commit(writes.collect()).await?.results {
        result?;
    }
    Ok(())
}

/// Stores messages for users who never log in, with ids as the server gives them.
async fn fill_inboxes(store: &dyn Store, messages: u64) -> Result<(), Fault> {
    let text = "x".repeat(32);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    // An hour ago, so that none of the ids is given again.
    let sent_at = i64::try_from(now.as_millis())? - 3_600_000;
    let write = |n: u64| {
        let id = ((sent_at << 22) + n as i64).to_string();
        let message = Message::new(store::Kind::P2p, Uid(1), None, MsgId(&id), &text, sent_at);
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

/// Prints the address of the gateway, then those of the access servers.
fn say(addrs: &[SocketAddr]) -> Result<(), Fault> {
    let addrs: Vec<String> = addrs.iter().map(SocketAddr::to_string).collect();
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", addrs.join(" "))?;
    Ok(out.flush()?)
}
