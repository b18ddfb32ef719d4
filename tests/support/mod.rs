//! What every suite of tests builds on: one stack to talk to, one client of the wire, one client of HTTP.
//!
//! | file | what it holds |
//! |---|---|
//! | `transport` | [`Transport`]: TCP, TLS, WebSocket or WSS, the parameter of a run |
//! | `each_transport` | the tests that run a suite over the other transports; its `transports` includes them |
//! | `connection` | the halves of a connection by the run's transport |
//! | `link`, `tls` | the bytes of a connection, within TLS or not |
//! | `websocket` | the translation between frames with a length and WebSocket frames |
//! | `wire` | [`Wire`]: a connection that sends and reads frames, whole or cut, valid or not |
//! | `request` | the requests of the wire contract |
//! | `http` | [`Http`]: a connection that speaks HTTP, as a request and its answer or as bytes |
//! | `ports` | ports that stay reserved while nothing listens on them |
//! | `chance` | a generator of random numbers whose seed can be repeated |
//! | `hooked_store` | a store in front of another one, with hooks around each operation |
//! | `gated_store` | a store whose operations a test holds back, lets through or makes fail |
//! | `writes` | short forms of the writes of a store, for the suites that test one without a stack |
//!
//! Each suite includes this folder by `#[path]`, and uses a part of it. The suites of the stores include only the files that
//! they need. Tests that look at no bytes use `imd::Client`.

pub mod chance;
mod connection;
pub mod gated_store;
pub mod hooked_store;
pub mod http;
mod link;
pub mod ports;
mod request;
#[cfg(feature = "tls")]
mod tls;
pub mod transport;
mod websocket;
mod wire;

pub use http::{Http, http, post};
pub use request::{ack, group_msg, login, login_with_token, p2p, ping, sync};
pub use transport::Transport;
pub use wire::{Wire, counted_bytes, framed, raw_frame};

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use imd::access::AccessServer;
use imd::proto::{OffsetMsg, ReqSyncMsg, ResSelectAccessServerForClient, ResSyncMsg};
use imd::session::Session;
use imd::{Config, Imd};
use tokio::net::TcpStream;

/// How long anything that should happen at once may take. Only a failing test waits that long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for what should happen at once, and fails the test in place of waiting for longer than [`PATIENCE`].
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("this should have happened by now")
}

/// Lets other tasks run until a condition holds. It is for conditions that can't be awaited.
pub async fn until(condition: impl Fn() -> bool) {
    soon(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Returns a config like [`Config::ephemeral`] whose servers take clients of this run's transport.
pub fn ephemeral() -> Config {
    for_this_run(Config::ephemeral())
}

/// Returns a config whose servers also take clients of this run's transport.
pub fn for_this_run(mut config: Config) -> Config {
    if Transport::of_this_run().is_websocket() {
        config.with_websockets();
    }
    #[cfg(feature = "tls")]
    if Transport::of_this_run().is_tls() {
        let certificate = tls::certificate();
        config.tls.cert = Some(certificate.cert);
        config.tls.key = Some(certificate.key);
        // The requests of HTTP are without TLS in every run.
        config.tls.plain = true;
    }
    config
}

/// Starts a stack.
pub async fn start(config: Config) -> Imd {
    Imd::start(config).await.unwrap()
}

/// Starts a stack on a manual clock.
pub async fn start_manual() -> Imd {
    start(ephemeral().manual_clock()).await
}

/// Returns whether nothing listens at this address.
pub async fn refuses(addr: SocketAddr) -> bool {
    match soon(TcpStream::connect(addr)).await {
        Ok(_) => false,
        // A listener that is just being closed resets the connections that it has not accepted.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
            true
        }
    }
}

/// Returns a config whose ports no other program is given while this stack does not listen on them.
pub fn quiet_ports() -> Config {
    let mut config = ephemeral();
    config.gateway.listen = ports::reserved();
    config.gateway.ws_listen = config.gateway.ws_listen.map(|_| ports::reserved());
    config.http.user_listen = ports::reserved();
    config.http.group_listen = ports::reserved();
    config.admin.listen = ports::reserved();
    for server in &mut config.access.0 {
        server.listen = ports::reserved();
        server.ws_listen = server.ws_listen.map(|_| ports::reserved());
    }
    config
}

/// Returns the address of an access server for this run's transport.
pub fn addr_of(server: &AccessServer) -> SocketAddr {
    match Transport::of_this_run().is_websocket() {
        true => server.ws_addr().expect("a config of `ephemeral`"),
        false => server.addr(),
    }
}

/// Returns the address of the first access server for this run's transport.
pub fn access(imd: &Imd) -> SocketAddr {
    addr_of(&imd.access_servers()[0])
}

/// Returns the address of the gateway for this run's transport.
pub fn gateway(imd: &Imd) -> SocketAddr {
    match Transport::of_this_run().is_websocket() {
        true => imd.gateway_ws_addr().expect("a config of `ephemeral`"),
        false => imd.gateway_addr(),
    }
}

/// Returns the address that a gateway has handed out for this run's transport.
pub fn addr_in(reply: &ResSelectAccessServerForClient) -> SocketAddr {
    match Transport::of_this_run().is_websocket() {
        true => {
            // It is not wss://, since these servers also take clients without TLS.
            let addr = reply.ws_addr.strip_prefix("ws://");
            addr.expect("the URL of a WebSocket").parse().unwrap()
        }
        false => reply.addr.parse().unwrap(),
    }
}

/// Logs a user in on the first access server. A notify follows if the inbox holds something unread.
pub async fn user(imd: &Imd, uid: i64) -> Wire {
    let mut wire = Wire::connect(access(imd)).await;
    wire.login(imd, uid).await;
    wire
}

/// Logs a user in who has something unread, and checks the notify of it: (currentID, totalID).
pub async fn user_with_mail(imd: &Imd, uid: i64, notify: (i64, i64)) -> Wire {
    let mut wire = user(imd, uid).await;
    assert_eq!(wire.notified().await, notify);
    wire
}

/// Moves a manual clock, which must not take long however far it is moved.
pub async fn advance(imd: &Imd, by: Duration) {
    soon(imd.clock().advance(by)).await;
}

/// Requests more pages for user 1 than the buffers of the sockets hold, and reads none of them. Returns when the session has
/// stopped reading requests.
pub async fn congest(server: &AccessServer, wire: &mut Wire) {
    wire.p2p(1, "m", &"x".repeat(32_000)).await;
    let _ = wire.notified().await;
    let requests: Vec<ReqSyncMsg> = (0..1_000).map(|_| sync(0, 0)).collect();
    wire.send_all(&requests).await;
    let is_congested = |session: Arc<Session>| session.queued() >= 200_000;
    let sessions = server.sessions();
    until(|| sessions.sessions().any(is_congested)).await;
}

/// Creates a group with these members, of whom the first is its creator. Returns its id.
pub async fn group_of(imd: &Imd, members: &[i64]) -> i64 {
    let api = imd.group_api_addr();
    let form = format!("uid={}&name=team", members[0]);
    let (_, created) = post(api, "/x/group/create", &form).await;
    let gid = created["data"]["gid"].as_i64().unwrap();
    for uid in &members[1..] {
        let (_, joined) = post(api, "/x/group/join", &format!("uid={uid}&gid={gid}")).await;
        assert_eq!(joined["code"], 0);
    }
    gid
}

/// Returns the texts of a page.
pub fn texts(msgs: &[OffsetMsg]) -> Vec<&str> {
    msgs.iter().map(|entry| entry.msg.as_str()).collect()
}

/// Returns the versions of a page.
pub fn versions(page: &ResSyncMsg) -> Vec<i64> {
    page.msgs.iter().map(|entry| entry.increment_id).collect()
}
