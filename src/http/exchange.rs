//! What a connection knows of the request that it is answering: whether all of it was read, whether its client may
//! close the writing side meanwhile, and whether the client is too slow.
//!
//! The service sees requests and answers, the socket sees bytes. [`Exchange`] is what the two of them share.

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
use tokio::net::TcpStream;

use crate::clock::running;

use super::body::TooSlow;
use super::pace::Pace;

/// Where one connection stands.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// A request is being answered, and the answer has not been handed over yet. False while the rest of a body is waited
    /// for: a client that closes its writing side then has not said all.
    is_answering: AtomicBool,
    /// All of that request has come.
    is_whole: AtomicBool,
    /// An answer was given before all of its request was read.
    has_unread: AtomicBool,
}

impl Exchange {
    /// A request's head has come. Most requests are answered without a look at a body.
    fn begin(&self) {
        self.is_whole.store(false, Ordering::Relaxed);
        self.is_answering.store(true, Ordering::Relaxed);
    }

    /// Whether a request is being answered whose answer has not been handed over yet.
    pub(super) fn is_answering(&self) -> bool {
        self.is_answering.load(Ordering::Relaxed)
    }

    /// Whether the client may still be writing a request that is answered already.
    pub(super) fn has_unread(&self) -> bool {
        self.has_unread.load(Ordering::Relaxed)
    }
}

/// Answers the requests of one connection, and says in each answer what becomes of the connection.
pub(super) struct Answering {
    router: TowerToHyperService<Router>,
    exchange: Arc<Exchange>,
    /// `Keep-Alive`, where there is something to promise.
    kept: Option<HeaderValue>,
    /// The deadline of each body.
    timeout: Duration,
}

impl Answering {
    pub(super) fn new(
        router: Router,
        exchange: Arc<Exchange>,
        kept: Option<HeaderValue>,
        timeout: Duration,
    ) -> Answering {
        Answering {
            router: TowerToHyperService::new(router),
            exchange,
            kept,
            timeout,
        }
    }
}

type Answer = Response<AnswerBody>;
type AnswerFuture = Pin<Box<dyn Future<Output = Result<Answer, std::convert::Infallible>> + Send>>;

impl Service<Request<Incoming>> for Answering {
    type Response = Answer;
    type Error = std::convert::Infallible;
    type Future = AnswerFuture;

    fn call(&self, request: Request<Incoming>) -> AnswerFuture {
        let kept = self.kept.clone().filter(|_| asks_to_keep(&request));
        self.exchange.begin();
        let (exchange, timeout) = (Arc::clone(&self.exchange), self.timeout);
        let answering = self.router.call(request.map(|body| {
            let body = RequestBody {
                body,
                exchange,
                pace: Pace::new(timeout),
            };
            body.look_for_the_end();
            Body::new(body)
        }));
        let exchange = Arc::clone(&self.exchange);
        Box::pin(async move {
            let mut answer = answering.await?;
            say_what_becomes(answer.headers_mut(), &exchange, kept);
            Ok(answer.map(|body| AnswerBody { body, exchange }))
        })
    }
}

/// Whether the client would send another request on this connection.
fn asks_to_keep<B>(request: &Request<B>) -> bool {
    let says = |word: &str| {
        let values = request.headers().get_all(header::CONNECTION).iter();
        let words = values.filter_map(|value| value.to_str().ok());
        words
            .flat_map(|words| words.split(','))
            .any(|one| one.trim().eq_ignore_ascii_case(word))
    };
    match request.version() {
        Version::HTTP_11 => !says("close"),
        _ => says("keep-alive"),
    }
}

/// A connection whose request was not read to its end is closed. Any other one is kept, for as long as is said here.
fn say_what_becomes(headers: &mut HeaderMap, exchange: &Exchange, kept: Option<HeaderValue>) {
    if !exchange.is_whole.load(Ordering::Relaxed) {
        exchange.has_unread.store(true, Ordering::Relaxed);
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    } else if let Some(kept) = kept {
        headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        headers.insert("keep-alive", kept);
    }
}

/// The body of a request. It notes its end, and when more of it is waited for; it fails with [`TooSlow`] when that takes
/// too long, whatever reads it.
struct RequestBody {
    body: Incoming,
    exchange: Arc<Exchange>,
    pace: Pace,
}

impl RequestBody {
    fn look_for_the_end(&self) {
        if self.body.is_end_stream() {
            self.ended();
        }
    }

    fn ended(&self) {
        self.exchange.is_whole.store(true, Ordering::Relaxed);
    }

    fn is_waited_for(&self, waited_for: bool) {
        self.exchange
            .is_answering
            .store(!waited_for, Ordering::Relaxed);
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.is_waited_for(false);
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
            this.is_waited_for(overdue.is_pending());
            return overdue.map(|()| Some(Err(TooSlow(this.pace.limit()).into())));
        };
        this.is_waited_for(false);
        match &frame {
            None => this.ended(),
            Some(frame) => {
                let data = frame.as_ref().ok().and_then(Frame::data_ref);
                this.pace.moved(data.map_or(0, Bytes::len));
                this.look_for_the_end();
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

/// The body of an answer. When it is dropped, the answer has been handed over.
pub(super) struct AnswerBody {
    body: Body,
    exchange: Arc<Exchange>,
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.exchange.is_answering.store(false, Ordering::Relaxed);
    }
}

impl hyper::body::Body for AnswerBody {
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

/// A connection's socket. A client that has closed its writing side after a whole request may be gone, or may wait for
/// the answer: it counts as gone when the time of its pace is over. So does a client that reads its answers too slowly, or never.
pub(super) struct Socket {
    stream: TcpStream,
    exchange: Arc<Exchange>,
    /// The deadline of what is written.
    pace: Pace,
    /// The client has closed its writing side.
    has_ended: bool,
    /// Runs from there on, where the client may wait for an answer.
    closing: Option<running::Sleep>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, exchange: Arc<Exchange>, patience: Duration) -> Socket {
        Socket {
            stream,
            exchange,
            pace: Pace::new(patience),
            has_ended: false,
            closing: None,
        }
    }

    /// The connection itself.
    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Notes what came of a write. One that can't go on fails when the client is too slow.
    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let Poll::Ready(written) = written else {
            let overdue = self.pace.poll_overdue(cx);
            return overdue.map(|()| Err(io::ErrorKind::TimedOut.into()));
        };
        self.pace.moved(*written.as_ref().unwrap_or(&0));
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
        if !this.has_ended {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            if buf.filled().len() > before || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            this.has_ended = true;
            // What came right before the end may not have been handed to the request yet. It has been when this is polled
            // again.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !this.exchange.is_answering() {
            return Poll::Ready(Ok(()));
        }
        let patience = this.pace.limit();
        let closing = this
            .closing
            .get_or_insert_with(|| Box::pin(running::sleep(patience)));
        closing.as_mut().poll(cx).map(Ok)
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
        this.wrote(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Called when everything has been written: until there is more, nothing is expected of the client.
        let this = self.get_mut();
        this.pace.restart();
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
