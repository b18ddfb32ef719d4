//! The accept loop that gateway, access servers and HTTP share: limits, back-off, socket options.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Config;
use crate::session::{Connection, Handler, Pause, Server};
use crate::shutdown::Shutdown;

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// The wait after the first failed accept, doubled up to the longest. Real time: it waits for the operating system.
const BACK_OFF: Duration = Duration::from_millis(10);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(1);

/// How many files are kept free for other things than clients: the admin API's connections, and the store.
const RESERVED_FILES: u64 = 128;

/// What the listeners of one `imd` share: all of them but the admin API's have their places together.
#[derive(Debug, Clone)]
pub struct Admission {
    places: Arc<Semaphore>,
    /// What says how many places there are.
    limit: &'static str,
    /// Whether the last connection had to wait for its place: said once, not for each.
    crowded: Arc<AtomicBool>,
    keepalive: Duration,
    user_timeout: Duration,
}

impl Admission {
    /// Raises the open-file limit to what the system allows, and takes the number of connections from it.
    pub fn new(config: &Config) -> Self {
        let files = raise_file_limit();
        let from_files =
            usize::try_from(files.saturating_sub(RESERVED_FILES)).unwrap_or(usize::MAX);
        let most = config.limits.connections.min(from_files.max(1));
        if most < config.limits.connections {
            tracing::info!(
                connections = most,
                files,
                "the open-file limit allows fewer connections"
            );
        }
        Admission {
            places: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
            limit: "limits.connections or the open-file limit",
            crowded: Arc::default(),
            keepalive: config.session.tcp_keepalive,
            user_timeout: config.session.tcp_user_timeout,
        }
    }

    /// The same with so many places of its own: whoever has all the others keeps nobody from these.
    #[must_use]
    pub fn apart(&self, places: usize) -> Self {
        Admission {
            places: Arc::new(Semaphore::new(places)),
            limit: "this listener's own limit",
            crowded: Arc::default(),
            ..self.clone()
        }
    }

    async fn place(&self, addr: SocketAddr) -> Option<Place> {
        let permit = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => {
                self.crowded.store(false, Ordering::Relaxed);
                permit
            }
            Err(_) => {
                if !self.crowded.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        listener = %addr,
                        limit = self.limit,
                        "as many connections as there may be: new ones wait"
                    );
                }
                Arc::clone(&self.places).acquire_owned().await.ok()?
            }
        };
        Some(Place { _permit: permit })
    }

    fn prepare(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let socket = SockRef::from(stream);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(self.keepalive))?;
        set_user_timeout(&socket, self.user_timeout)
    }
}

#[cfg(target_os = "linux")]
fn set_user_timeout(socket: &SockRef<'_>, timeout: Duration) -> io::Result<()> {
    socket.set_tcp_user_timeout(Some(timeout))
}

/// Other systems have no such option; keepalive and the deadlines of the sessions are what is left there.
#[cfg(not(target_os = "linux"))]
fn set_user_timeout(_: &SockRef<'_>, _: Duration) -> io::Result<()> {
    Ok(())
}

#[cfg(windows)]
fn raise_file_limit() -> u64 {
    // Sockets are not counted as files there.
    u64::MAX
}

#[cfg(not(windows))]
fn raise_file_limit() -> u64 {
    rlimit::increase_nofile_limit(u64::MAX).unwrap_or_else(|error| {
        tracing::warn!(%error, "the open-file limit can't be raised");
        1024
    })
}

/// The right to hold one connection.
#[derive(Debug)]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// Binds a listener that is ready to accept.
///
/// # Errors
///
/// What the system says.
pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    listen(reserve(addr)?)
}

/// Has connections to a reserved address queued, ready to be accepted.
///
/// # Errors
///
/// What the system says.
pub fn listen(reserved: TcpSocket) -> io::Result<TcpListener> {
    reserved.listen(BACKLOG)
}

/// Takes an address at which nothing listens: connections are refused, and nobody is given its port as a free one.
///
/// # Errors
///
/// What the system says.
pub fn reserve(addr: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if addr.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // So that a restart need not wait for the last connections of the life before; on Windows it would mean another
    // thing: sharing the port.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    Ok(socket)
}

/// Accepts until the shutdown begins, then closes the listener. Nothing of a connection is awaited here. During a pause
/// connections wait in the system's queue.
pub async fn accept(
    listener: TcpListener,
    admission: Admission,
    shutdown: Shutdown,
    pause: Arc<Pause>,
    mut serve: impl FnMut(TcpStream, SocketAddr, Place),
) {
    let Ok(addr) = listener.local_addr() else {
        return;
    };
    let mut back_off = BACK_OFF;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.begun() => return,
            () = pause.begun() => {
                tokio::select! {
                    () = shutdown.begun() => return,
                    () = pause.over() => continue,
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
                    () = shutdown.begun() => return,
                    () = tokio::time::sleep(back_off) => {}
                }
                back_off = (back_off * 2).min(LONGEST_BACK_OFF);
                continue;
            }
        };
        back_off = BACK_OFF;
        let place = tokio::select! {
            () = shutdown.begun() => return,
            place = admission.place(addr) => place,
        };
        // A socket that takes no options is closed already.
        if let (Some(place), Ok(())) = (place, admission.prepare(&stream)) {
            serve(stream, peer, place);
        }
    }
}

/// Serves sessions on the tasks of the server's manager, which also sweeps them.
pub fn serve_sessions<H: Handler>(listener: TcpListener, admission: Admission, server: Server<H>) {
    let server = Arc::new(server);
    let shutdown = server.manager.shutdown().clone();
    let pause = Arc::clone(server.manager.pausing());
    shutdown.spawn(Arc::clone(&server.manager).sweep());
    let tasks = shutdown.clone();
    let open = move |stream: TcpStream, peer, place: Place| {
        // Fails only for a connection that is gone already.
        let Ok(local) = stream.local_addr() else {
            return;
        };
        let session = server.manager.open(peer, local);
        tracing::debug!(session = %session.id(), %peer, "session opened");
        let connection = Connection::new(stream, session, Arc::clone(&server));
        tasks.spawn(async move {
            connection.run().await;
            drop(place);
        });
    };
    shutdown.spawn(accept(listener, admission, shutdown.clone(), pause, open));
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
    async fn a_reserved_address_refuses_until_it_listens() {
        let socket = reserve(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let addr = socket.local_addr().unwrap();
        let error = TcpStream::connect(addr).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let _listener = listen(socket).unwrap();
        TcpStream::connect(addr).await.unwrap();
    }

    #[tokio::test]
    async fn an_accepted_socket_has_its_options() {
        let config = Config::default();
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        Admission::new(&config).prepare(&stream).unwrap();
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
