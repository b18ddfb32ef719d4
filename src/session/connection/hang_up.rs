//! Notices a peer that hangs up while a fault holds something for its connection.
//!
//! Serves the connection, wherever its task may wait for a fault. Nothing is read during such a wait. Without this module,
//! the task would see only after the wait that the peer has hung up, and the connection would hold its permit until then.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;

use super::Connection;

impl<H: Send + Sync> Connection<H> {
    /// Awaits `work`. If the peer hangs up meanwhile, no fault holds anything for this session any more, so that `work` ends
    /// soon.
    ///
    /// The socket is watched only while a rule is in force or the journal records.
    pub(super) async fn with_hang_up_watch<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let mut hung_up: Option<Pin<Box<dyn Future<Output = ()> + Send + '_>>> = None;
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            if self.context.fault_point.is_quiet() || self.session.is_abandoned() {
                return Poll::Pending;
            }
            let hung_up = hung_up.get_or_insert_with(|| Box::pin(self.transport.hung_up()));
            if hung_up.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.session.note_hang_up();
            work.as_mut().poll(cx)
        })
        .await
    }
}
