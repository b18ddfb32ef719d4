//! A proxy in front of an access server: it can break connections, and change the frames that the server sends.
//!
//! Serves the tests of `imd bench` and `imd chat`, which must notice or survive what a server of `imd` never does by
//! itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use futures_util::StreamExt;
use imd::codec::FrameCodec;
use imd::proto::Cmd;
use imd::{Client, Config};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio_util::codec::FramedRead;
use tokio_util::sync::CancellationToken;

use crate::process::{Daemon, Program, write_config};
use crate::support::raw_frame;

/// Turns a frame of the server into the frames that its client receives.
type Tamper = dyn Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync;

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Open,
    /// New connections are closed at once.
    Down,
    /// The next reply to a message to a user is dropped, and its connection closed.
    LoseAnswer,
}

struct State {
    mode: Mode,
    target: Option<SocketAddr>,
    /// Cancelled to close all connections.
    connections: CancellationToken,
}

/// A proxy that runs until the process ends.
#[derive(Clone)]
pub struct Proxy {
    pub addr: SocketAddr,
    state: Arc<Mutex<State>>,
    tamper: Arc<Tamper>,
}

impl Proxy {
    fn start(tamper: Arc<Tamper>) -> Proxy {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy {
            addr: listener.local_addr().unwrap(),
            state: Arc::new(Mutex::new(State {
                mode: Mode::Open,
                target: None,
                connections: CancellationToken::new(),
            })),
            tamper,
        };
        let accepting = proxy.clone();
        // The proxy has a thread of its own, because tests block theirs.
        thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(accepting.accept(listener));
        });
        proxy
    }

    pub fn go_down(&self) {
        let mut state = self.state.lock();
        state.mode = Mode::Down;
        std::mem::take(&mut state.connections).cancel();
    }

    pub fn go_up(&self) {
        self.state.lock().mode = Mode::Open;
    }

    pub fn lose_next_answer(&self) {
        self.state.lock().mode = Mode::LoseAnswer;
    }

    async fn accept(self, listener: std::net::TcpListener) {
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        while let Ok((client, _)) = listener.accept().await {
            let state = self.state.lock();
            let (Some(target), true) = (state.target, state.mode != Mode::Down) else {
                continue;
            };
            let (proxy, is_closed) = (self.clone(), state.connections.clone());
            tokio::spawn(async move {
                is_closed
                    .run_until_cancelled(proxy.serve(client, target))
                    .await
            });
        }
    }

    /// Passes bytes and frames on, until one side closes or a reply is to be lost.
    async fn serve(self, client: TcpStream, target: SocketAddr) {
        let server = TcpStream::connect(target).await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (from_server, mut to_server) = server.into_split();
        let answers = async {
            let mut frames = FramedRead::new(from_server, FrameCodec);
            while let Some(Ok(frame)) = frames.next().await {
                if self.loses(&frame) {
                    return;
                }
                let frames = (self.tamper)(&frame).into_iter();
                let bytes: Vec<u8> = frames.flat_map(|frame| raw_frame(&frame)).collect();
                if to_client.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
            () = answers => {}
        }
    }

    fn loses(&self, frame: &Bytes) -> bool {
        let mut state = self.state.lock();
        let lost = state.mode == Mode::LoseAnswer && Cmd::of(frame) == Some(Cmd::SendP2PMsg);
        if lost {
            state.mode = Mode::Open;
        }
        lost
    }
}

/// Starts a stack whose only access server is reached through a proxy.
pub fn behind_a_proxy() -> (Proxy, Daemon) {
    behind_a_tampering_proxy(|frame| vec![frame.to_vec()])
}

/// Starts a stack whose only access server is reached through a proxy that changes what the server sends.
pub fn behind_a_tampering_proxy(
    tamper: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync + 'static,
) -> (Proxy, Daemon) {
    let proxy = Proxy::start(Arc::new(tamper));
    let folder = TempDir::new().unwrap();
    let mut config = Config::ephemeral();
    config.access.resize(1);
    config.access.0[0].advertise = Some(proxy.addr.to_string());
    let config = write_config(folder.path(), &config.to_toml().unwrap());
    let daemon = Daemon::start_with(&["--config", &config], Program::start);
    let target = listening(&daemon).parse().unwrap();
    proxy.state.lock().target = Some(target);
    (proxy, daemon)
}

/// Returns the address on which the first access server listens, which is not the one that it advertises.
fn listening(daemon: &Daemon) -> &str {
    daemon.banner[2].split_whitespace().nth(2).unwrap()
}

/// Logs a client in that does not go through the proxy.
pub async fn direct(daemon: &Daemon, uid: i64) -> Client {
    let mut client = Client::connect_to(listening(daemon)).await.unwrap();
    let token = imd::service::salted_token(uid, imd::config::PUBLIC_SALT);
    client.login(uid, &token).await.unwrap();
    client
}
