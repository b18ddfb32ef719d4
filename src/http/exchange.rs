//! The state of the request that a connection is serving: whether its body was read to the end, and whether its
//! response is still to be written.
//!
//! Serves the module `server`. hyper's service sees requests and responses, and the socket sees bytes, but neither
//! alone can decide when a connection is to be closed. They share an [`Exchange`]: [`ExchangeService`] updates it, and
//! [`Socket`] reads it. A connection serves one request at a time, so there is one [`Exchange`] for each connection.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Request, Response, Version, header};
use axum::{BoxError, Router};
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock::running;
use crate::tls::ServerStream;

use super::body::TooSlow;
use super::pace::Pace;

/// The progress of the current request of one connection, shared by its service and its socket.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// Whether a request is in progress whose response has not been written yet. False while more of the request's body
    /// is awaited: a client that closes its writing side at that moment has broken off its request.
    is_responding: AtomicBool,
    /// Whether the current request has been read to the end of its body.
    is_request_complete: AtomicBool,
    /// Whether a response was sent before its request was read to the end. Never reset: the connection is closed then.
    has_unread_body: AtomicBool,
    /// Whether the client has sent anything yet. Never reset.
    has_received: AtomicBool,
    /// Whether the next read asks the system for bytes of which the runtime has not been told yet.
    reads_at_once: AtomicBool,
}

impl Exchange {
    /// Records that the head of a request has arrived.
    fn begin_request(&self) {
        self.is_request_complete.store(false, Ordering::Relaxed);
        self.is_responding.store(true, Ordering::Relaxed);
    }

    /// Returns whether a request is in progress whose response has not been handed to the socket yet.
    pub(super) fn is_responding(&self) -> bool {
        self.is_responding.load(Ordering::Relaxed)
    }

    /// Returns whether the client has sent anything yet.
    pub(super) fn has_received(&self) -> bool {
        self.has_received.load(Ordering::Relaxed)
    }

    /// Has the next read of the socket ask the system itself. A request may have arrived of which the runtime has not been
    /// told yet: it is told of events between two tasks only.
    pub(super) fn read_at_once(&self) {
        self.reads_at_once.store(true, Ordering::Relaxed);
    }

    /// Returns whether the client may still be sending a request that has been answered already.
    pub(super) fn has_unread_body(&self) -> bool {
        self.has_unread_body.load(Ordering::Relaxed)
    }
}

/// Serves the requests of one connection with a router, and sets the `Connection` header of each response: `close`
/// after a request that was not read to its end.
pub(super) struct ExchangeService {
    router: TowerToHyperService<Router>,
    exchange: Arc<Exchange>,
    /// The `Keep-Alive` header of responses. None if connections are not kept, or not for a whole second.
    keep_alive: Option<HeaderValue>,
    /// The time for each portion of a request's body: see [`Pace`].
    timeout: Duration,
}

impl ExchangeService {
    /// Creates the service of one connection. `timeout` is the time for each portion of a request's body.
    pub(super) fn new(
        router: Router,
        exchange: Arc<Exchange>,
        keep_alive: Option<HeaderValue>,
        timeout: Duration,
    ) -> ExchangeService {
        ExchangeService {
            router: TowerToHyperService::new(router),
            exchange,
            keep_alive,
            timeout,
        }
    }
}

type HttpResponse = Response<ResponseBody>;
type ResponseFuture =
    Pin<Box<dyn Future<Output = Result<HttpResponse, std::convert::Infallible>> + Send>>;

impl Service<Request<Incoming>> for ExchangeService {
    type Response = HttpResponse;
    type Error = std::convert::Infallible;
    type Future = ResponseFuture;

    fn call(&self, request: Request<Incoming>) -> ResponseFuture {
        let keep_alive = self
            .keep_alive
            .clone()
            .filter(|_| wants_keep_alive(&request));
        self.exchange.begin_request();
        let (exchange, timeout) = (Arc::clone(&self.exchange), self.timeout);
        let response = self.router.call(request.map(|body| {
            let body = RequestBody {
                body,
                exchange,
                pace: Pace::new(timeout),
            };
            body.note_end();
            Body::new(body)
        }));
        let exchange = Arc::clone(&self.exchange);
        Box::pin(async move {
            let mut response = response.await?;
            set_connection_headers(response.headers_mut(), &exchange, keep_alive);
            Ok(response.map(|body| ResponseBody { body, exchange }))
        })
    }
}

/// Returns whether the client wants to send another request on this connection, by its HTTP version and its
/// `Connection` header.
fn wants_keep_alive<B>(request: &Request<B>) -> bool {
    let has_token = |token: &str| {
        let fields = request.headers().get_all(header::CONNECTION).iter();
        let values = fields.filter_map(|value| value.to_str().ok());
        values
            .flat_map(|values| values.split(','))
            .any(|listed| listed.trim().eq_ignore_ascii_case(token))
    };
    match request.version() {
        Version::HTTP_11 => !has_token("close"),
        _ => has_token("keep-alive"),
    }
}

/// Sets the headers that tell the client whether the connection stays open.
///
/// A connection whose request was not read to its end is closed, because the rest of the body stands before the next
/// request. Any other one is kept for as long as `keep_alive` says.
fn set_connection_headers(
    headers: &mut HeaderMap,
    exchange: &Exchange,
    keep_alive: Option<HeaderValue>,
) {
    if !exchange.is_request_complete.load(Ordering::Relaxed) {
        exchange.has_unread_body.store(true, Ordering::Relaxed);
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    } else if let Some(keep_alive) = keep_alive {
        headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        headers.insert("keep-alive", keep_alive);
    }
}

/// The body of a request. It records in the [`Exchange`] when it has ended and when more of it is awaited, and fails
/// with [`TooSlow`] when the client is too slow, whoever reads it.
struct RequestBody {
    body: Incoming,
    exchange: Arc<Exchange>,
    pace: Pace,
}

impl RequestBody {
    fn note_end(&self) {
        if self.body.is_end_stream() {
            self.mark_complete();
        }
    }

    fn mark_complete(&self) {
        self.exchange
            .is_request_complete
            .store(true, Ordering::Relaxed);
    }

    fn set_awaiting_body(&self, is_awaiting: bool) {
        self.exchange
            .is_responding
            .store(!is_awaiting, Ordering::Relaxed);
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.set_awaiting_body(false);
    }
}

impl hyper::body::Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            let overdue = this.pace.poll_overdue(cx);
            this.set_awaiting_body(overdue.is_pending());
            return overdue.map(|()| Some(Err(TooSlow(this.pace.limit()).into())));
        };
        this.set_awaiting_body(false);
        match &frame {
            None => this.mark_complete(),
            Some(frame) => {
                let data = frame.as_ref().ok().and_then(Frame::data_ref);
                this.pace.record_progress(data.map_or(0, Bytes::len));
                this.note_end();
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response. hyper drops it once all of it has been handed to the socket, which ends the exchange.
pub(super) struct ResponseBody {
    body: Body,
    exchange: Arc<Exchange>,
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.exchange.is_responding.store(false, Ordering::Relaxed);
    }
}

impl hyper::body::Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The socket of a connection, with a time limit on the client.
///
/// A client that has closed its writing side after a complete request may be gone, or may be waiting for the response.
/// The end of the stream is therefore held back from hyper while a response is pending, for the time of the pace at
/// most. A client that reads its responses more slowly than the pace makes writes fail with `TimedOut`.
pub(super) struct Socket {
    stream: ServerStream,
    exchange: Arc<Exchange>,
    /// The minimum rate at which the client has to read.
    pace: Pace,
    /// Whether the client has closed its writing side.
    is_read_closed: bool,
    /// When the end of the stream is reported at the latest. Set once the client has closed its writing side while a
    /// response was pending.
    close_deadline: Option<running::Sleep>,
}

impl Socket {
    /// Creates the socket of a connection whose service has the same `exchange`. `timeout` is the time in which the client
    /// has to read each portion of the responses.
    pub(super) fn new(stream: ServerStream, exchange: Arc<Exchange>, timeout: Duration) -> Socket {
        Socket {
            stream,
            exchange,
            pace: Pace::new(timeout),
            is_read_closed: false,
            close_deadline: None,
        }
    }

    /// Returns the connection, without the limits on the client.
    pub(super) fn into_stream(self) -> ServerStream {
        self.stream
    }

    /// Reads what has arrived by now, if the exchange [says so](Exchange::read_at_once). Pending if there is nothing, or if the
    /// client has closed its side: the runtime tells of that.
    fn read_now(&mut self, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.exchange.reads_at_once.swap(false, Ordering::Relaxed) {
            return Poll::Pending;
        }
        match self.stream.read_now(buf.initialize_unfilled()) {
            Ok(0) => Poll::Pending,
            Ok(read) => {
                buf.advance(read);
                Poll::Ready(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Records the result of a write. A write that is blocked fails with `TimedOut` when the client is too slow.
    fn note_write(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let Poll::Ready(written) = written else {
            let overdue = self.pace.poll_overdue(cx);
            return overdue.map(|()| Err(io::ErrorKind::TimedOut.into()));
        };
        self.pace.record_progress(*written.as_ref().unwrap_or(&0));
        Poll::Ready(written)
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_read_closed {
            let before = buf.filled().len();
            match Pin::new(&mut this.stream).poll_read(cx, buf) {
                Poll::Pending => ready!(this.read_now(buf))?,
                // The end of the TCP stream without one of TLS. A request tells its length, so nothing is cut off unnoticed.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Poll::Ready(read) => read?,
            }
            this.exchange.has_received.store(true, Ordering::Relaxed);
            if buf.filled().len() > before || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            this.is_read_closed = true;
            // hyper may not have passed the last bytes on to the request yet, so `is_responding` may be stale. hyper
            // has done so by the next poll.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !this.exchange.is_responding() {
            return Poll::Ready(Ok(()));
        }
        let timeout = this.pace.limit();
        let close_deadline = this
            .close_deadline
            .get_or_insert_with(|| Box::pin(running::sleep(timeout)));
        close_deadline.as_mut().poll(cx).map(Ok)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.note_write(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.note_write(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if Pin::new(&mut this.stream).poll_flush(cx)?.is_pending() {
            // The rest of what TLS has encrypted has not been read yet.
            let overdue = this.pace.poll_overdue(cx);
            return overdue.map(|()| Err(io::ErrorKind::TimedOut.into()));
        }
        // hyper flushes once everything has been written. Until there is more to write, the client owes nothing.
        this.pace.restart();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
