//! Brokers that a user might pick instead, where they are installed: how they are started, and their processes.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use crate::Fault;
use crate::serve::Kind;

/// The program behind a kind of server, if it is not this one.
pub fn program(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Nats => Some("nats-server"),
        Kind::Mosquitto => Some("mosquitto"),
        Kind::Echo | Kind::Mock | Kind::Imd | Kind::WithoutLab => None,
    }
}

/// Whether there is such a program.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// What starts a broker on a port that was free a moment ago.
pub fn command(program: &str, folder: &Path) -> Result<(Command, SocketAddr), Fault> {
    let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let port = addr.port();
    let mut command = Command::new(program);
    if program == "mosquitto" {
        let config = folder.join("mosquitto.conf");
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\nlog_dest none\n\
             max_inflight_messages 0\nmax_queued_messages 0\nuser root\n"
        );
        fs::write(&config, text)?;
        command.arg("-c").arg(config);
    } else {
        command.args(["-a", "127.0.0.1", "-l", "/dev/null", "-p"]);
        command.arg(port.to_string());
    }
    Ok((command, addr))
}
