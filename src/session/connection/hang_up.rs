//! Notices a peer that hangs up while a fault holds what is done for it.
//!
//! Nothing is read from a connection while its task waits for a fault, so the end of what the peer has sent would be seen
//! only after the wait, and the connection would keep its place until then.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use super::Connection;

impl<H: Send + Sync> Connection<H> {
    /// Does `work`. If the peer hangs up meanwhile, faults hold nothing for it any more.
    ///
    /// The socket is watched only while there are rules or something is recorded.
    pub(super) async fn with_hang_up_watch<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut end: Option<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = None;
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            if self.server.fault_point.is_quiet() || self.session.is_abandoned() {
                return Poll::Pending;
            }
            let end = end.get_or_insert_with(|| Box::pin(self.transport.hung_up()));
            if end.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.session.note_hang_up();
            work.as_mut().poll(cx)
        })
        .await
    }

    /// Waits for what is `left` of a wait that has not ended before.
    pub(super) async fn finish_wait<T>(
        &self,
        ended: Option<T>,
        left: impl Future<Output = T>,
    ) -> T {
        match ended {
            Some(result) => result,
            None => self.with_hang_up_watch(left).await,
        }
    }
}

/// Does `work`, and looks at a `wait` meanwhile. The second value is its result, where it has ended: then it must not be
/// polled again.
pub(super) async fn run_beside_wait<T, W>(
    work: impl Future<Output = T>,
    mut wait: Pin<&mut impl Future<Output = W>>,
) -> (T, Option<W>) {
    let mut work = pin!(work);
    let mut ended = None;
    let done = poll_fn(|cx| {
        if ended.is_none()
            && let Poll::Ready(result) = wait.as_mut().poll(cx)
        {
            ended = Some(result);
        }
        work.as_mut().poll(cx)
    })
    .await;
    (done, ended)
}
