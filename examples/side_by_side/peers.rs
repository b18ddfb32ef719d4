//! Brokers that a user might choose in place of `imd`: whether they are installed, and how they are started.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use crate::Fault;

/// Returns whether a program is in a folder of `PATH`.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Returns the command that starts a broker, and its address. Its port was free a moment ago; another program may take it
/// meanwhile.
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
