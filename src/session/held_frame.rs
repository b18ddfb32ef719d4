//! Frames that a fault holds back until the next one has passed, and the delay of such a next frame.
//!
//! Serves the request batch for requests, and the connection for what it writes.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::BytesMut;
use futures_util::future::{MaybeDone, maybe_done};

use super::Session;
use crate::lab::{Hold, UntilRelease};

/// A request without its length prefix.
pub(super) struct RequestMessage(pub BytesMut);

/// A frame to be written, with its length prefix.
pub(super) struct WholeFrame(pub BytesMut);

/// A request that is held back.
pub(super) type HeldRequest = HeldFrame<RequestMessage>;

/// A reply or a notify that is held back.
pub(super) type HeldReply = HeldFrame<WholeFrame>;

/// A frame that is held back until the next one has passed, or until the rule ends.
pub(super) struct HeldFrame<F> {
    /// A [`RequestMessage`] or a [`WholeFrame`].
    pub frame: F,
    /// When the request was read; none for a frame that replies to no request.
    pub read_at: Option<Instant>,
    until_release: UntilRelease,
}

impl<F> HeldFrame<F> {
    /// Creates a frame that is held back from now on.
    pub fn new(frame: F, read_at: Option<Instant>, hold: Hold) -> Box<HeldFrame<F>> {
        Box::new(HeldFrame {
            frame,
            read_at,
            until_release: hold.until_release(),
        })
    }

    /// Returns whether the rule that holds the frame has ended.
    pub fn is_released(&self) -> bool {
        self.until_release.is_released()
    }

    /// Resolves when the rule that holds the frame ends.
    pub fn poll_released(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.until_release.poll_released(cx)
    }
}

/// The delay of a frame. If another frame is held back until this one has passed, the delay owns that frame too, because its
/// rule may end during the delay.
///
/// The delay has to be polled from its creation on, also [during](Self::poll_during) other work, since an advance of the
/// clock waits for the owner of a fired timer: see [`Ticks`](crate::clock::Ticks).
pub(super) struct Delay<F> {
    session: Arc<Session>,
    wait: MaybeDone<Pin<Box<dyn Future<Output = Waited<F>> + Send>>>,
}

/// How a part of a delay has ended.
pub(super) struct Waited<F> {
    /// The frame that is held back until the delayed one has passed.
    pub held: Option<Box<HeldFrame<F>>>,
    /// What is left to be waited for, if the held frame was released before the end of the delay.
    pub left: Option<Hold>,
}

impl<F: Send + 'static> Delay<F> {
    /// Creates the delay of a frame that waits for `hold`, at most until the session is closed or its peer has hung up.
    pub fn new(session: Arc<Session>, hold: Hold, held: Option<Box<HeldFrame<F>>>) -> Self {
        let waiting = wait(Arc::clone(&session), hold, held);
        Delay {
            session,
            wait: maybe_done(Box::pin(waiting)),
        }
    }

    /// Awaits `work`, and polls the delay meanwhile.
    pub async fn poll_during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            let _ = Pin::new(&mut self.wait).poll(cx);
            work.as_mut().poll(cx)
        })
        .await
    }

    /// Waits for the end of the delay, or for the release of the held frame if that comes first. In the latter case the rest
    /// of the delay is [`left`](Waited::left), and the caller [restarts](Self::restart) it without the frame.
    pub async fn ended_or_released(&mut self) -> Waited<F> {
        Pin::new(&mut self.wait).await;
        let ended = Pin::new(&mut self.wait).take_output();
        ended.unwrap_or(Waited {
            held: None,
            left: None,
        })
    }

    /// Restarts the delay with `left`, the part of it that has not passed.
    pub fn restart(&mut self, left: Hold) {
        *self = Delay::new(Arc::clone(&self.session), left, None);
    }
}

/// Waits until a delay is over, the session is abandoned, or the frame is released that is held back until the delayed one
/// has passed. In the last case, the caller gets the timer back and has to go on polling it: see
/// [`Ticks`](crate::clock::Ticks).
async fn wait<F>(
    session: Arc<Session>,
    mut hold: Hold,
    mut held: Option<Box<HeldFrame<F>>>,
) -> Waited<F> {
    let released = poll_fn(|cx| match held.as_mut() {
        Some(held) => held.poll_released(cx),
        None => Poll::Pending,
    });
    tokio::select! {
        biased;
        () = released => Waited { held, left: Some(hold) },
        () = or_abandoned(&session, hold.wait()) => Waited { held, left: None },
    }
}

/// Awaits `work`, at most until the session is closed or half-open, or its peer has hung up.
pub(super) async fn or_abandoned<T>(session: &Session, work: impl Future<Output = T>) {
    tokio::select! {
        _ = work => {}
        () = session.abandoned() => {}
    }
}
