//! Serves a router over HTTP/1.1 on a listener.
//!
//! Serves the user API, the group API and the admin API, each on a listener of its own. Every wait for a client is
//! bounded, in real time: for the head of a request, for its body, for the client to read the response, and for the
//! next request.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::http::HeaderValue;
use axum::{Extension, Router};
use hyper::rt;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::exchange::{Exchange, ExchangeService, Socket};
use crate::clock::running;
use crate::listener::{Admission, ConnectionPermit, accept};
use crate::metrics::HandshakeFailures;
use crate::session::Pause;
use crate::task_group::TaskGroup;
use crate::tls::{Acceptor, HandshakeFailure, NEEDS_HTTPS, ServerStream};
use crate::transport::discard;

/// The size of the system's send buffer of a connection, in bytes. Depending on the system, half of it or all of it
/// holds data.
const SEND_BUFFER: usize = 256 * 1024;

/// How long a client must have sent nothing to count as having stopped sending a request that was answered early. Real
/// time.
const LINGER_IDLE: Duration = Duration::from_secs(2);

/// The timeout of a [`Server`] for a reserved connection. Short, since there are few of these connections. Real time.
const RESERVED_TIMEOUT: Duration = Duration::from_secs(1);

/// Marks, as an extension, a request that came on a [reserved](ConnectionPermit::is_reserved) connection. Such a connection serves
/// one request.
#[derive(Debug, Clone, Copy)]
pub struct Reserved;

/// How much longer a kept connection stays open than the `Keep-Alive` header says, so that a request that the client
/// sends at the last moment is still served.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);

/// An HTTP server: what its connections share.
#[derive(Debug, Clone)]
pub struct Server {
    /// Answers the requests.
    pub router: Router,
    /// Makes the TLS handshakes, if there are any.
    pub acceptor: Acceptor,
    /// Counts the handshakes that fail.
    pub handshake_failures: HandshakeFailures,
    /// Ends the server: its accept loop and its connections.
    pub tasks: TaskGroup,
    /// Bounds each of these in real time: the TLS handshake, the arrival of a request's head, the transfer of each portion of
    /// its body and of the response, the wait for the next request on a kept connection, and the wait for the response of a
    /// client that has closed its writing side.
    pub timeout: Duration,
}

impl Server {
    /// Serves HTTP/1.1 on a listener until the shutdown begins. Requests in progress are answered before their connections
    /// are closed, unless the tasks are asked to end at once.
    pub async fn serve(self, listener: TcpListener, admission: Admission) {
        let tasks = self.tasks.clone();
        let serve = |stream, _, permit: ConnectionPermit| {
            let mut server = self.clone();
            tasks.spawn(async move {
                if permit.is_reserved() {
                    server.router = server.router.layer(Extension(Reserved));
                    server.timeout = server.timeout.min(RESERVED_TIMEOUT);
                }
                // In a box, which is gone when the first request arrives.
                let stream = Box::pin(server.shake_hands(stream, &permit)).await;
                if let Some(stream) = stream {
                    server.serve_connection(stream, &permit).await;
                }
                drop(permit);
            });
        };
        let never_paused = Arc::<Pause>::default();
        accept(listener, admission, tasks.clone(), never_paused, serve).await;
    }

    /// Makes the TLS handshake of a connection, if there is one. Returns `None` if it has failed, the shutdown has begun, or
    /// the connection has to make room for another one.
    async fn shake_hands(
        &self,
        stream: TcpStream,
        permit: &ConnectionPermit,
    ) -> Option<ServerStream> {
        // A send buffer of the system's usual size may take a large response as a whole, and would hide for minutes whether
        // a slow client reads at all. With a small one, the rest of the response waits in `imd`, and the pace sees what is
        // read.
        if let Err(error) = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER) {
            tracing::debug!(%error, "the send buffer keeps its size");
        }
        if !self.acceptor.is_tls() {
            return Some(ServerStream::Plain(stream));
        }
        let accepted = tokio::select! {
            biased;
            () = self.tasks.shutdown_begun() => return None,
            accepted = running::timeout(self.timeout, self.acceptor.accept(stream)) => accepted,
            () = permit.wanted() => {
                permit.pass_on();
                return None;
            }
        };
        let error = match accepted {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => error,
            Err(_) => {
                self.handshake_failures.count("too_slow");
                return None;
            }
        };
        tracing::debug!(%error, "a connection ended before its first request");
        self.handshake_failures.count(error.failure.label());
        let mut stream = error.stream?;
        if error.failure == HandshakeFailure::Plain {
            stream.write_all(NEEDS_HTTPS).await.ok()?;
        }
        self.linger_unless_ended(ServerStream::Plain(stream), permit)
            .await;
        None
    }

    /// Lingers as [`linger`] does, until the shutdown begins or another connection needs a reserved permit.
    async fn linger_unless_ended(&self, stream: ServerStream, permit: &ConnectionPermit) {
        tokio::select! {
            () = self.tasks.shutdown_begun() => {}
            () = permit.wanted(), if permit.is_reserved() => {}
            () = linger(stream, self.timeout) => {}
        }
    }
}

/// The timer with which hyper measures the deadline of a request's head. It leaves out the time for which the process
/// was stopped.
#[derive(Debug, Clone, Copy)]
struct Timer;

impl rt::Timer for Timer {
    fn sleep(&self, time: Duration) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(Sleep(Box::pin(running::sleep(time))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }
}

/// A wait of [`Timer`].
struct Sleep(running::Sleep);

impl rt::Sleep for Sleep {}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl Server {
    /// Serves the requests of one connection, until the client or the shutdown ends it, or the connection has to make room
    /// for another one.
    async fn serve_connection(self, stream: ServerStream, permit: &ConnectionPermit) {
        let (tasks, timeout) = (&self.tasks, self.timeout);
        let is_persistent = !permit.is_reserved();
        let exchange = Arc::<Exchange>::default();
        let socket = Socket::new(stream, Arc::clone(&exchange), timeout);
        let keep_alive = keep_alive(timeout).filter(|_| is_persistent);
        let service = ExchangeService::new(
            self.router.clone(),
            Arc::clone(&exchange),
            keep_alive,
            timeout,
        );
        let mut server = http1::Builder::new();
        server
            .timer(Timer)
            .header_read_timeout(timeout)
            .keep_alive(is_persistent);
        let mut connection = server.serve_connection(TokioIo::new(socket), service);
        let mut may_give_way = true;
        let served = loop {
            tokio::select! {
                // In this order, so that a request that has arrived is answered before the shutdown ends the connection.
                biased;
                served = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break served,
                () = permit.wanted(), if may_give_way => {
                    // A request that has arrived is answered, although the runtime has not told of it yet.
                    exchange.read_at_once();
                    let polled = poll_fn(|cx| Poll::Ready(connection.poll_without_shutdown(cx))).await;
                    if let Poll::Ready(served) = polled {
                        break served;
                    }
                    if gives_way(permit, &exchange) {
                        return;
                    }
                    may_give_way = false;
                    permit.pass_on();
                }
                () = tasks.shutdown_begun() => {
                    std::pin::Pin::new(&mut connection).graceful_shutdown();
                    tokio::select! {
                        served = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break served,
                        () = tasks.hurried() => return,
                    }
                }
            }
        };
        let is_unreadable = served.as_ref().is_err_and(hyper::Error::is_parse);
        if let Err(error) = served {
            tracing::debug!(%error, "http connection ended");
        }
        let mut stream = connection.into_parts().io.into_inner().into_stream();
        if exchange.has_unread_body() || is_unreadable {
            self.linger_unless_ended(stream, permit).await;
        } else {
            stream.end_tls().await;
        }
    }
}

/// Returns whether a connection is closed to make room for a newer one: a reserved one unless a response is pending, after
/// which it is closed anyway; any other one only as long as its client has sent nothing.
fn gives_way(permit: &ConnectionPermit, exchange: &Exchange) -> bool {
    match permit.is_reserved() {
        true => !exchange.is_responding(),
        false => !exchange.has_received(),
    }
}

/// Returns the `Keep-Alive` header of a connection that is kept for `timeout`. None if that is too short to announce.
fn keep_alive(timeout: Duration) -> Option<HeaderValue> {
    let seconds = timeout.saturating_sub(KEEP_ALIVE_MARGIN).as_secs();
    let announced = format!("timeout={seconds}");
    HeaderValue::try_from(announced)
        .ok()
        .filter(|_| seconds > 0)
}

/// Closes a connection whose client may still be sending, without losing the response.
///
/// Closing the socket at once would reset the connection, and the client would lose the part of the response that it
/// has not read yet. So only the writing side is closed, and received bytes are discarded until the client closes its
/// side, sends nothing for a while, or `limit` is over.
async fn linger(mut stream: ServerStream, limit: Duration) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let drained = async {
        while let Ok(Ok(1..)) = running::timeout(LINGER_IDLE, discard(stream.tcp())).await {
            tokio::task::yield_now().await;
        }
    };
    // However this ends, the client has had the time to read the response.
    let _ = running::timeout(limit, drained).await;
}
