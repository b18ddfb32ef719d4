//! Brokers that a user might choose in place of `imd`: whether they can be measured here, and how they are started.
//!
//! Serves [`serve`](crate::serve), whose process the broker replaces, and the table. A broker has a config file and its data in
//! a temporary folder, listens on the loopback only, and changes nothing else of the machine's.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Fault;
use crate::kind::Kind;
use crate::server::Setup;

/// Returns whether a program is in a folder of `PATH`.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Returns why a broker can't be measured, if so.
pub fn obstacle(setup: Setup) -> Result<Option<&'static str>, Fault> {
    let Some(program) = setup.kind.broker() else {
        return Ok(None);
    };
    if !is_installed(program) {
        return Ok(Some("not installed"));
    }
    if setup.kind != Kind::JetStream || !setup.is_durable {
        return Ok(None);
    }
    // Before 2.10 there was no setting for a sync before the acknowledgement.
    let folder = tempfile::tempdir()?;
    let (mut check, _) = command(setup.kind, true, folder.path())?;
    let checked = check.arg("-t").stdout(Stdio::null()).stderr(Stdio::null());
    let is_known = checked.status()?.success();
    Ok((!is_known).then_some("too old for sync_interval: always"))
}

/// Returns the command that starts a broker, and its address. Its port was free a moment ago; another program may take it
/// meanwhile.
pub fn command(
    kind: Kind,
    is_durable: bool,
    folder: &Path,
) -> Result<(Command, SocketAddr), Fault> {
    let program = kind.broker().ok_or("no broker")?;
    let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let file = folder.join("config");
    fs::write(&file, config(kind, is_durable, addr, folder))?;
    let mut command = Command::new(program);
    if kind != Kind::Redis {
        command.arg("-c");
    }
    command.arg(file);
    Ok((command, addr))
}

/// Returns the config file of a broker. What it does not say has its default.
fn config(kind: Kind, is_durable: bool, addr: SocketAddr, folder: &Path) -> String {
    let (port, folder) = (addr.port(), folder.display());
    match kind {
        Kind::Mosquitto => format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nlog_dest none\n\
             max_inflight_messages 0\nmax_queued_messages 0\nuser root\n"
        ),
        Kind::Redis => {
            let when = if is_durable { "always" } else { "everysec" };
            format!(
                "bind 127.0.0.1\nport {port}\ndir {folder}\nsave \"\"\nappendonly yes\nappendfsync {when}\n\
                 logfile /dev/null\n"
            )
        }
        Kind::JetStream => {
            let sync = if is_durable {
                ", sync_interval: always"
            } else {
                ""
            };
            format!(
                "listen: \"{addr}\"\nlog_file: /dev/null\njetstream {{ store_dir: \"{folder}\"{sync} }}\n"
            )
        }
        _ => format!("listen: \"{addr}\"\nlog_file: /dev/null\n"),
    }
}
