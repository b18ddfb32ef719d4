//! A way to an access server that can break.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use imd::{Client, Config};
use tempfile::TempDir;

use crate::process::{Daemon, Program, write_config};

/// The start of a frame that answers a message to a user: field 1, the varint 20003.
const ANSWER_TO_P2P: [u8; 4] = [0x08, 0xa3, 0x9c, 0x01];

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Open,
    /// Connections are closed as they come.
    Down,
    /// The next answer to a message is lost with its connection.
    LoseAnswer,
}

struct State {
    mode: Mode,
    connections: Vec<TcpStream>,
    target: Option<SocketAddr>,
}

#[derive(Clone)]
pub struct Proxy {
    pub addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    pub fn start() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy {
            addr: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(State {
                mode: Mode::Open,
                connections: Vec::new(),
                target: None,
            })),
        };
        let accepting = proxy.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                accepting.serve(client);
            }
        });
        proxy
    }

    pub fn lead_to(&self, target: SocketAddr) {
        self.state.lock().unwrap().target = Some(target);
    }

    pub fn go_down(&self) {
        let mut state = self.state.lock().unwrap();
        state.mode = Mode::Down;
        for connection in state.connections.drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    pub fn go_up(&self) {
        self.state.lock().unwrap().mode = Mode::Open;
    }

    pub fn lose_next_answer(&self) {
        self.state.lock().unwrap().mode = Mode::LoseAnswer;
    }

    fn serve(&self, client: TcpStream) {
        let mut state = self.state.lock().unwrap();
        let (Some(target), true) = (state.target, state.mode != Mode::Down) else {
            return;
        };
        let server = TcpStream::connect(target).unwrap();
        state.connections.push(client.try_clone().unwrap());
        state.connections.push(server.try_clone().unwrap());
        let (to_server, from_server) = (server.try_clone().unwrap(), server);
        let (from_client, to_client) = (client.try_clone().unwrap(), client);
        let proxy = self.clone();
        thread::spawn(move || copy(from_client, to_server, |_| false));
        thread::spawn(move || copy(from_server, to_client, |bytes| proxy.loses(bytes)));
    }

    fn loses(&self, bytes: &[u8]) -> bool {
        let mut state = self.state.lock().unwrap();
        let lost = state.mode == Mode::LoseAnswer && bytes.windows(4).any(|w| w == ANSWER_TO_P2P);
        if lost {
            state.mode = Mode::Open;
        }
        lost
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, loses: impl Fn(&[u8]) -> bool) {
    let mut buffer = [0; 65_536];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        if loses(&buffer[..n]) || to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// A stack whose only access server is reached through a proxy.
pub fn behind_a_proxy() -> (Proxy, Daemon) {
    let proxy = Proxy::start();
    let daemon = stack_behind(proxy.addr);
    proxy.lead_to(listening(&daemon).parse().unwrap());
    (proxy, daemon)
}

/// A stack that tells clients to reach its only access server there.
pub fn stack_behind(addr: SocketAddr) -> Daemon {
    let folder = TempDir::new().unwrap();
    let mut config = Config::ephemeral();
    config.access.resize(1);
    for server in &mut config.access.0 {
        server.advertise = Some(addr.to_string());
    }
    let config = write_config(folder.path(), &config.to_toml().unwrap());
    Daemon::start_with(&["--config", &config], Program::start)
}

/// Where the first access server really listens.
pub fn listening(daemon: &Daemon) -> &str {
    daemon.banner[2].split_whitespace().nth(2).unwrap()
}

/// A client that goes past the proxy.
pub async fn direct(daemon: &Daemon, uid: i64) -> Client {
    let mut client = Client::connect_to(listening(daemon)).await.unwrap();
    let token = imd::service::salted_token(uid, imd::config::PUBLIC_SALT);
    client.login(uid, &token).await.unwrap();
    client
}
