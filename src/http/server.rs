//! Serves the HTTP of every listener: the user API, the group API and the admin API.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::HeaderValue;
use hyper::rt;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::exchange::{Answering, Exchange, Socket};
use crate::clock::running;
use crate::listener::{Admission, accept};
use crate::session::{Pause, forget};
use crate::shutdown::Shutdown;

/// A client that writes nothing for so long has stopped writing a request that was answered early. Real time.
const STILL: Duration = Duration::from_secs(2);

/// A kept connection stays open for so much longer than is announced: a request that leaves at the last moment arrives.
const MARGIN: Duration = Duration::from_secs(1);

/// Serves HTTP/1.1 until the shutdown begins; requests that are under way are answered.
///
/// `timeout` is how long the head of a request may take to arrive, how long a kept connection waits for the next
/// request, and how long a client that has closed its writing side is waited for.
pub async fn serve(
    listener: TcpListener,
    admission: Admission,
    shutdown: Shutdown,
    timeout: Duration,
    router: Router,
) {
    let serve = |stream, _, place| {
        let (router, until) = (router.clone(), shutdown.clone());
        shutdown.spawn(async move {
            connection(stream, router, until, timeout).await;
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

struct Sleep(Pin<Box<dyn Future<Output = ()> + Send + Sync>>);

impl rt::Sleep for Sleep {}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

async fn connection(stream: TcpStream, router: Router, until: Shutdown, timeout: Duration) {
    let exchange = Arc::<Exchange>::default();
    let socket = Socket::new(stream, Arc::clone(&exchange), timeout);
    let service = Answering::new(router, Arc::clone(&exchange), kept(timeout));
    let mut server = http1::Builder::new();
    server.timer(Timer).header_read_timeout(timeout);
    let mut connection = server.serve_connection(TokioIo::new(socket), service);
    let served = tokio::select! {
        served = poll_fn(|cx| connection.poll_without_shutdown(cx)) => served,
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
            () = linger(stream, timeout) => {}
        }
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
