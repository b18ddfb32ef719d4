//! Notices a peer that hangs up while a fault holds something for its connection.
//!
//! Nothing is read from a connection while its task waits for a fault. Without this module, the end of what the peer has
//! sent would be seen only after the wait, and the connection would keep its permit until then.

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
