//! The accept loop that the gateway, the access servers and the HTTP servers share, with its limits and its back-off.
//!
//! Serves `gateway`, `access` and `http`. A connection is served only with a permit of [`Admission`], so that no
//! listener takes the files that another part of the stack needs.

mod admission;
mod handshake;
mod pages;

pub use admission::{ADMIN_CONNECTIONS, Admission, ConnectionPermit, Room, TooFewFiles};
pub use handshake::Handshake;
pub use pages::Pages;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::codec::Framing;
use crate::session::{Connection, Handler, ListenerContext, Pause, SessionManager};
use crate::task_group::TaskGroup;
use crate::tls::Acceptor;
use crate::transport::Transport;

/// How many connections the system queues until they are accepted.
const BACKLOG: u32 = 1024;

/// The wait after a failed accept. It doubles with each further failure, up to [`LONGEST_BACK_OFF`]. It is real time,
/// since it waits for the operating system.
const BACK_OFF: Duration = Duration::from_millis(10);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(1);

#[cfg(target_os = "linux")]
fn set_user_timeout(socket: &SockRef<'_>, timeout: Duration) -> io::Result<()> {
    socket.set_tcp_user_timeout(Some(timeout))
}

/// Does nothing: other systems have no such option. Keepalive and the deadlines of the sessions close dead connections
/// there.
#[cfg(not(target_os = "linux"))]
fn set_user_timeout(_: &SockRef<'_>, _: Duration) -> io::Result<()> {
    Ok(())
}

/// Returns the limit of open files: none, because Windows does not count sockets as files.
#[cfg(windows)]
pub fn raise_file_limit() -> u64 {
    u64::MAX
}

/// Raises the open-file limit of this process as far as the system allows, and returns the new limit. If it can't be
/// raised, that is logged, and the lowest usual limit is returned.
#[cfg(not(windows))]
pub fn raise_file_limit() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|error| {
        tracing::warn!(%error, "the open-file limit can't be raised");
        1024
    })
}

/// Binds a listener that is ready to accept.
///
/// # Errors
///
/// The error of the system.
pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    listen(bind_without_listening(addr)?)
}

/// Listens on a socket of [`bind_without_listening`].
///
/// # Errors
///
/// The error of the system.
pub fn listen(bound: TcpSocket) -> io::Result<TcpListener> {
    bound.listen(BACKLOG)
}

/// Binds an address without listening on it: connections are refused, and the system gives its port to nobody else.
///
/// # Errors
///
/// The error of the system.
pub fn bind_without_listening(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // With this option a restart need not wait until the last connections of the previous start have ended. On Windows
    // it would let another program share the port.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    if addr.is_ipv6() && addr.ip().is_unspecified() {
        serve_both_families(&SockRef::from(&socket));
    }
    socket.bind(addr)?;
    Ok(socket)
}

/// Lets a socket that will be bound to `::` take connections by IPv4 too. Whether it does by default depends on the
/// system, and on Linux on `net.ipv6.bindv6only`.
fn serve_both_families(socket: &SockRef<'_>) {
    // Some BSDs have no such sockets. Clients are served there by IPv6 alone, which is better than not to start.
    if let Err(error) = socket.set_only_v6(false) {
        tracing::warn!(%error, "a listener on [::] takes no connections by IPv4 here: listen on 0.0.0.0 for them");
    }
}

/// Accepts connections until the shutdown begins, and closes the listener then. During a pause, connections wait in the
/// system's queue.
///
/// `serve` must not wait for the connection: it gets the socket, the peer's address, and the permit to keep as long as
/// the connection.
pub async fn accept(
    listener: TcpListener,
    admission: Admission,
    tasks: TaskGroup,
    pause: Arc<Pause>,
    mut serve: impl FnMut(TcpStream, SocketAddr, ConnectionPermit),
) {
    let Ok(addr) = listener.local_addr() else {
        return;
    };
    let mut back_off = BACK_OFF;
    loop {
        let accepted = tokio::select! {
            biased;
            () = tasks.shutdown_begun() => return,
            () = pause.paused() => {
                tokio::select! {
                    () = tasks.shutdown_begun() => return,
                    () = pause.resumed() => continue,
                }
            }
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_the_peers_fault(&error) => continue,
            Err(error) => {
                tracing::warn!(listener = %addr, %error, "can't accept, trying again");
                tokio::select! {
                    () = tasks.shutdown_begun() => return,
                    () = tokio::time::sleep(back_off) => {}
                }
                back_off = (back_off * 2).min(LONGEST_BACK_OFF);
                continue;
            }
        };
        back_off = BACK_OFF;
        let permit = tokio::select! {
            () = tasks.shutdown_begun() => return,
            permit = admission.permit(addr) => permit,
        };
        // A socket that takes no options was closed by its peer.
        if let (Some(permit), Ok(())) = (permit, admission.prepare(&stream)) {
            serve(stream, peer, permit);
        }
    }
}

/// The bound listeners of one server.
#[derive(Debug)]
pub struct Listeners {
    /// For clients that send frames with a length before them.
    pub frames: TcpListener,
    /// For WebSocket clients, if the server takes them.
    pub websocket: Option<TcpListener>,
}

/// The sockets of one server, bound but not listening: see [`bind_without_listening`].
#[derive(Debug)]
pub struct BoundSockets {
    frames: (SocketAddr, TcpSocket),
    websocket: Option<(SocketAddr, TcpSocket)>,
}

impl BoundSockets {
    /// Binds the addresses of a server.
    ///
    /// # Errors
    ///
    /// The error of the system, with the address that can't be bound.
    pub fn bind(frames: SocketAddr, websocket: Option<SocketAddr>) -> Result<Self, BindError> {
        let bound = |addr| match bind_without_listening(addr) {
            Ok(socket) => Ok((addr, socket)),
            Err(source) => Err(BindError { addr, source }),
        };
        Ok(BoundSockets {
            frames: bound(frames)?,
            websocket: websocket.map(bound).transpose()?,
        })
    }
}

impl Listeners {
    /// Binds the listeners of a server.
    ///
    /// # Errors
    ///
    /// The error of the system, with the address that can't be bound.
    pub fn bind(frames: SocketAddr, websocket: Option<SocketAddr>) -> Result<Self, BindError> {
        Listeners::listen(BoundSockets::bind(frames, websocket)?)
    }

    /// Listens on bound sockets.
    ///
    /// # Errors
    ///
    /// The error of the system, with the address that can't be listened on.
    pub fn listen(sockets: BoundSockets) -> Result<Self, BindError> {
        let listening =
            |(addr, socket)| listen(socket).map_err(|source| BindError { addr, source });
        Ok(Listeners {
            frames: listening(sockets.frames)?,
            websocket: sockets.websocket.map(listening).transpose()?,
        })
    }
}

/// An address can't be bound.
#[derive(Debug, thiserror::Error)]
#[error("{addr}: {source}")]
pub struct BindError {
    /// The address.
    pub addr: SocketAddr,
    /// The error of the system.
    pub source: io::Error,
}

/// Serves the sessions of a server on its listeners, and closes those that miss a deadline. `context` makes what the
/// sessions of one listener share, and `acceptor` the TLS handshakes, if there are any; `pages` may open WebSockets.
pub fn serve_server<H: Handler>(
    listeners: Listeners,
    admission: &Admission,
    acceptor: &Acceptor,
    pages: &Arc<Pages>,
    manager: &Arc<SessionManager>,
    context: impl Fn(Framing) -> ListenerContext<H>,
) {
    manager.tasks().spawn(Arc::clone(manager).sweep());
    serve_sessions(
        listeners.frames,
        admission.clone(),
        Handshake::frames(acceptor.clone()),
        context(Framing::LengthPrefix),
    );
    if let Some(listener) = listeners.websocket {
        serve_sessions(
            listener,
            admission.clone(),
            Handshake::websocket(acceptor.clone(), Arc::clone(pages)),
            context(Framing::WebSocket),
        );
    }
}

/// Serves sessions on a listener, with tasks of the server's session manager. A session is opened once the `handshake` of
/// its connection is done.
fn serve_sessions<H: Handler>(
    listener: TcpListener,
    admission: Admission,
    handshake: Handshake,
    context: ListenerContext<H>,
) {
    let context = Arc::new(context);
    let tasks = context.manager.tasks().clone();
    let pause = Arc::clone(context.manager.pause_state());
    let session_tasks = tasks.clone();
    let open = move |stream: TcpStream, peer, permit: ConnectionPermit| {
        if handshake.is_none() {
            if let Some(connection) = open_session(stream.into(), peer, &context) {
                session_tasks.spawn(connection.run(permit));
            }
            return;
        }
        let (handshake, context) = (handshake.clone(), Arc::clone(&context));
        session_tasks.spawn(async move {
            // In a box, so that the task of an open session has no room for the handshake.
            let done = Box::pin(handshake.perform(stream, peer, &context)).await;
            let connection = done.and_then(|transport| open_session(transport, peer, &context));
            drop((handshake, context));
            if let Some(connection) = connection {
                connection.run(permit).await;
            }
        });
    };
    tasks.spawn(accept(listener, admission, tasks.clone(), pause, open));
}

/// Opens a session for a connection. Returns `None` if the peer has closed the connection already.
fn open_session<H: Handler>(
    transport: Transport,
    peer: SocketAddr,
    context: &Arc<ListenerContext<H>>,
) -> Option<Connection<H>> {
    let local = transport.local_addr().ok()?;
    let session = context.manager.open(peer, local);
    tracing::debug!(session = %session.id(), %peer, "session opened");
    Some(Connection::new(transport, session, Arc::clone(context)))
}

fn is_the_peers_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bound_address_refuses_until_it_listens() {
        let socket = bind_without_listening(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let addr = socket.local_addr().unwrap();
        let error = TcpStream::connect(addr).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let _listener = listen(socket).unwrap();
        TcpStream::connect(addr).await.unwrap();
    }

    #[tokio::test]
    async fn a_listener_on_all_addresses_serves_both_families() {
        let listener = match bind("[::]:0".parse().unwrap()) {
            Ok(listener) => listener,
            // This machine has no IPv6.
            Err(error) => return assert_ne!(error.kind(), io::ErrorKind::AddrInUse),
        };
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (_, peer) = listener.accept().await.unwrap();
        assert!(peer.is_ipv6() && peer.ip().to_canonical().is_ipv4());
    }

    #[tokio::test]
    async fn an_accepted_socket_has_its_options() {
        let config = crate::config::Config::default();
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        Admission::new(&config).unwrap().prepare(&stream).unwrap();
        assert!(stream.nodelay().unwrap());
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        #[cfg(target_os = "linux")]
        {
            let (idle, timeout) = (socket.tcp_keepalive_time(), socket.tcp_user_timeout());
            assert_eq!(idle.unwrap(), config.session.tcp_keepalive);
            assert_eq!(timeout.unwrap(), Some(config.session.tcp_user_timeout));
        }
    }
}
