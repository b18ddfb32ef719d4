//! Serves the HTTP of every listener: the user API, the group API and the admin API.

use std::future::{pending, poll_fn};
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

use super::exchange::{Answering, Exchange, Socket};
use crate::clock::running;
use crate::listener::{Admission, Place, accept};
use crate::session::Pause;
use crate::shutdown::Shutdown;
use crate::transport::forget;

/// Bytes of an answer that the system may hold for a client, half or all of what it takes for them.
const SEND_BUFFER: usize = 256 * 1024;

/// A client that writes nothing for so long has stopped writing a request that was answered early. Real time.
const STILL: Duration = Duration::from_secs(2);

/// How long a client on a reserved connection has for the head of its request, for a part of the answer, and for its
/// end. Short, since there are few of these connections. Real time.
const RESERVED_TIMEOUT: Duration = Duration::from_secs(1);

/// Stands in the extensions of a request that came on a [reserved](Place::is_reserved) connection. Such a connection
/// takes one request.
#[derive(Debug, Clone, Copy)]
pub struct Reserved;

/// A kept connection stays open for so much longer than is announced: a request that leaves at the last moment arrives.
const MARGIN: Duration = Duration::from_secs(1);

/// Serves HTTP/1.1 until the shutdown begins; requests that are under way are answered.
///
/// `timeout` is how long the head of a request may take to arrive, how long each part of its body may take and each part
/// of the answer, how long a kept connection waits for the next request, and how long a client that has closed its writing
/// side is waited for.
pub async fn serve(
    listener: TcpListener,
    admission: Admission,
    shutdown: Shutdown,
    timeout: Duration,
    router: Router,
) {
    let serve = |stream, _, place: Place| {
        let (router, until) = (router.clone(), shutdown.clone());
        shutdown.spawn(async move {
            let (router, timeout) = match place.is_reserved() {
                true => (
                    router.layer(Extension(Reserved)),
                    timeout.min(RESERVED_TIMEOUT),
                ),
                false => (router, timeout),
            };
            connection(stream, router, until, timeout, &place).await;
            drop(place);
        });
    };
    let never = Arc::<Pause>::default();
    accept(listener, admission, shutdown.clone(), never, serve).await;
}

/// Counts the deadline of a request's head: without the stops of the process.
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

struct Sleep(running::Sleep);

impl rt::Sleep for Sleep {}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    until: Shutdown,
    timeout: Duration,
    place: &Place,
) {
    // A large answer waits in `imd`: a full send buffer of the system's usual size hides for minutes whether a slow client
    // reads at all.
    if let Err(error) = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER) {
        tracing::debug!(%error, "the send buffer keeps its size");
    }
    let keeps = !place.is_reserved();
    let exchange = Arc::<Exchange>::default();
    let socket = Socket::new(stream, Arc::clone(&exchange), timeout);
    let kept = kept(timeout).filter(|_| keeps);
    let service = Answering::new(router, Arc::clone(&exchange), kept, timeout);
    let mut server = http1::Builder::new();
    server
        .timer(Timer)
        .header_read_timeout(timeout)
        .keep_alive(keeps);
    let mut connection = server.serve_connection(TokioIo::new(socket), service);
    let served = tokio::select! {
        // A request that is there is answered first.
        biased;
        served = poll_fn(|cx| connection.poll_without_shutdown(cx)) => served,
        () = make_room(place, &exchange) => return,
        () = until.begun() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            tokio::select! {
                served = poll_fn(|cx| connection.poll_without_shutdown(cx)) => served,
                () = until.hurried() => return,
            }
        }
    };
    let is_unreadable = served.as_ref().is_err_and(hyper::Error::is_parse);
    if let Err(error) = served {
        tracing::debug!(%error, "http connection ended");
    }
    if exchange.has_unread() || is_unreadable {
        let stream = connection.into_parts().io.into_inner().into_stream();
        tokio::select! {
            () = until.begun() => {}
            () = place.wanted() => {}
            () = linger(stream, timeout) => {}
        }
    }
}

/// Resolves when a connection has to make room for another one, unless it is being answered: then it ends by itself.
async fn make_room(place: &Place, exchange: &Exchange) {
    place.wanted().await;
    if exchange.is_answering() {
        pending().await
    }
}

/// What a kept connection is announced with.
fn kept(timeout: Duration) -> Option<HeaderValue> {
    let seconds = timeout.saturating_sub(MARGIN).as_secs();
    let announced = format!("timeout={seconds}");
    HeaderValue::try_from(announced)
        .ok()
        .filter(|_| seconds > 0)
}

/// Ends a connection whose client may still be writing. Closing it at once would reset it, and the client would lose
/// the answer that it has not read yet. So the writing side alone is closed, and what comes is read and forgotten: until
/// the client closes too, writes nothing more, or `limit` is over.
async fn linger(mut stream: TcpStream, limit: Duration) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let drained = async {
        while let Ok(Ok(1..)) = running::timeout(STILL, forget(&stream)).await {
            tokio::task::yield_now().await;
        }
    };
    // However it ends, the client has had its chance.
    let _ = running::timeout(limit, drained).await;
}
