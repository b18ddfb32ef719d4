//! One connection: who it is, what waits to be written to it, and how it ends.
//!
//! A session owns its socket: the task in [`connection`] alone reads and writes it. Everyone else holds the
//! [`Session`], which never waits.

mod buffer_pool;
mod close;
pub mod connection;
mod deadlines;
mod fault_point;
mod handle;
mod held_frame;
pub mod manager;
mod outbound;
mod pause;
mod request_batch;
mod sweep;

pub use crate::directory::SessionId;
pub use close::CloseReason;
pub use connection::{Connection, Handler, Server};
pub use deadlines::Deadlines;
pub use fault_point::FaultPoint;
pub use manager::{Manager, SessionIds};
pub use pause::Pause;
pub use request_batch::RequestBatch;

use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;

use crate::codec::{Framing, MAX_FRAME};
use crate::id::{Uid, Version};
use crate::lab;
use deadlines::Timers;
use outbound::Outbound;

type Callback = Box<dyn FnOnce(&Session) + Send>;

/// What others know of a connection.
pub struct Session {
    id: SessionId,
    peer: SocketAddr,
    local: SocketAddr,
    /// Whose session it is; 0 before the login.
    uid: AtomicI64,
    timers: Timers,
    outbound_limit: usize,
    outbound: Mutex<Outbound>,
    half_open: AtomicBool,
    /// Whether the peer was seen to have closed its writing side, or the connection, while a fault held something.
    hung_up: AtomicBool,
    closed: OnceLock<CloseReason>,
    /// Ends it also where a close alone does not: when it is half-open.
    forced: OnceLock<CloseReason>,
    /// Whether nothing more comes of it.
    is_done: AtomicBool,
    /// Run once by the close; none afterwards.
    on_close: Mutex<Option<Vec<Callback>>>,
}

impl Session {
    fn new(
        id: SessionId,
        (peer, local): (SocketAddr, SocketAddr),
        opened: Duration,
        outbound_limit: usize,
    ) -> Self {
        Session {
            id,
            peer,
            local,
            uid: AtomicI64::new(0),
            timers: Timers::new(opened),
            outbound_limit,
            outbound: Mutex::default(),
            half_open: AtomicBool::new(false),
            hung_up: AtomicBool::new(false),
            closed: OnceLock::new(),
            forced: OnceLock::new(),
            is_done: AtomicBool::new(false),
            on_close: Mutex::new(Some(Vec::new())),
        }
    }

    /// Its id.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The client's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The address by which the client has reached this server.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The user who is logged in, if one is.
    pub fn uid(&self) -> Option<Uid> {
        Uid::nonzero(self.uid.load(Ordering::Acquire))
    }

    /// Binds the user who has just logged in.
    pub fn log_in(&self, uid: Uid) {
        self.uid.store(uid.0, Ordering::Release);
    }

    /// A page that ends at `end` of an inbox that goes to `total` is among what is written next.
    fn page_served(&self, end: Version, total: Version) {
        self.outbound.lock().page_served(end, total);
    }

    /// The page from `begin` to `end` does not reach the peer: a fault keeps it.
    fn page_lost(&self, begin: Version, end: Version) {
        self.outbound.lock().page_lost(begin, end);
    }

    /// Tells the client that there is something newer than `current`, up to `total`. Whether one not yet written has taken
    /// it up.
    pub fn notify(&self, current: Version, total: Version) -> bool {
        self.queue(|outbound| outbound.notify(current, total))
    }

    /// Changes what waits, and wakes the session's task.
    fn queue<T>(&self, change: impl FnOnce(&mut Outbound) -> T) -> T {
        let mut outbound = self.outbound.lock();
        let result = change(&mut outbound);
        let task = outbound.task.take();
        drop(outbound);
        if let Some(task) = task {
            task.wake();
        }
        result
    }

    /// Closes the session: its task says what this reason has to be told, as the last frame, and ends. Only the first
    /// close counts, but for one that [ends_half_open](CloseReason::ends_half_open); it runs the callbacks before it returns.
    pub fn close(&self, reason: CloseReason) {
        let is_forced = reason.ends_half_open() && self.forced.set(reason).is_ok();
        if self.closed.set(reason).is_err() {
            if is_forced {
                self.wake();
            }
            return;
        }
        let callbacks = self.on_close.lock().take();
        for callback in callbacks.into_iter().flatten() {
            callback(self);
        }
        self.wake();
    }

    /// From now on it is as if the peer were behind a dead link: what comes is taken and forgotten, nothing is written,
    /// and no deadline is missed. It ends when the peer hangs up, when this server ends, or when it is
    /// [cut](CloseReason::ends_half_open).
    pub fn half_open(&self) {
        self.half_open.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether it was left [half-open](Self::half_open).
    #[inline]
    pub fn is_half_open(&self) -> bool {
        !lab::IS_LEFT_OUT && self.half_open.load(Ordering::Acquire)
    }

    /// Whether what comes is answered: it is neither closed nor half-open.
    #[inline]
    fn is_served(&self) -> bool {
        self.close_reason().is_none() && !self.is_half_open()
    }

    /// The peer has hung up while a fault held something. From now on no fault holds anything for this session: its task
    /// does at once what is left to be done, and comes to the end of what the peer has sent.
    fn note_hang_up(&self) {
        self.hung_up.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether a fault need not hold anything for this session any more: its peer has hung up, or it is closed or half-open.
    fn is_abandoned(&self) -> bool {
        !self.is_served() || self.hung_up.load(Ordering::Acquire)
    }

    /// Lets the session's task look at what there is to do.
    fn wake(&self) {
        self.queue(|_| {});
    }

    /// Why it was closed, once it is.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.forced.get().or(self.closed.get()).copied()
    }

    /// Whether nothing more comes of it, also in the journal: it has done with the requests that it took, and what is left
    /// is to wait for the peer to take its last word.
    pub fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }

    fn done(&self) {
        self.is_done.store(true, Ordering::Release);
    }

    /// Runs `callback` once when the session is closed: at once, if it is closed already.
    pub fn on_close(&self, callback: impl FnOnce(&Session) + Send + 'static) {
        if let Some(callbacks) = self.on_close.lock().as_mut() {
            // Mostly there is one, for a login.
            callbacks.reserve_exact(1);
            callbacks.push(Box::new(callback));
            return;
        }
        callback(self);
    }

    /// Whether everything that has come is answered, and nothing waits to be written; or it is half-open.
    pub fn is_idle(&self) -> bool {
        self.is_half_open() || self.timers.is_awaiting_peer() && self.outbound.lock().is_empty()
    }

    /// Returns whether too much waits to be written to take a further request.
    fn is_congested(&self, unwritten: usize) -> bool {
        unwritten > self.outbound_limit / 2
    }

    /// Returns the length of the longest frame that the client may send, in bytes. `before_login` is that limit before the
    /// login.
    fn max_frame(&self, before_login: usize) -> usize {
        match self.uid() {
            Some(_) => MAX_FRAME,
            None => before_login,
        }
    }

    /// Bytes of its answers that the socket has not taken.
    pub fn queued(&self) -> usize {
        self.outbound.lock().unwritten()
    }

    /// Whether there is something to do for the session's task, which is woken when there is.
    fn poll_work(&self, cx: &Context<'_>) -> Option<Work> {
        let mut outbound = self.outbound.lock();
        if self.is_half_open() {
            return Some(Work::HalfOpen);
        }
        if self.close_reason().is_some() {
            return Some(Work::Close);
        }
        if outbound.has_work() {
            return Some(Work::Write);
        }
        outbound.park(cx);
        None
    }

    /// Waits until no fault needs to hold anything for this session any more; only the session's own task is woken.
    async fn abandoned(&self) {
        poll_fn(|cx| self.poll_abandoned(cx)).await;
    }

    /// Resolves when no fault needs to hold anything for this session any more: its peer has hung up, or it is closed or
    /// half-open. Its task is woken then.
    fn poll_abandoned(&self, cx: &Context<'_>) -> Poll<()> {
        let mut outbound = self.outbound.lock();
        if self.is_abandoned() {
            return Poll::Ready(());
        }
        outbound.park(cx);
        Poll::Pending
    }

    /// Resolves when the session is closed, or half-open; its task is woken then.
    fn poll_closed(&self, cx: &Context<'_>) -> Poll<()> {
        let mut outbound = self.outbound.lock();
        if !self.is_served() {
            return Poll::Ready(());
        }
        outbound.park(cx);
        Poll::Pending
    }

    /// Resolves when the session is to end although it is half-open; its task is woken then.
    fn poll_ended(&self, cx: &Context<'_>) -> Poll<()> {
        let mut outbound = self.outbound.lock();
        if self.forced.get().is_some() {
            return Poll::Ready(());
        }
        // To be closed for anything else is nothing that the peer would see.
        outbound.park(cx);
        Poll::Pending
    }

    /// Has the session's task woken by the next who queues something, closes the session or wakes it.
    fn park(&self, cx: &Context<'_>) {
        self.outbound.lock().park(cx);
    }

    /// Hands what others have queued to the session's task, which has written all that it had.
    fn take_outbound(&self, framing: Framing, out: &mut BytesMut) {
        let mut outbound = self.outbound.lock();
        if self.close_reason().is_some() {
            outbound.forget_notify();
        }
        outbound.take(framing, out);
    }

    /// The socket has not taken so many bytes of what the session's task had.
    fn set_unwritten(&self, unwritten: usize) {
        self.outbound.lock().set_unwritten(unwritten);
    }

    /// Hands over what waits for the last time, with the last word behind it.
    fn take_final_output(&self, framing: Framing, out: &mut BytesMut) {
        let mut outbound = self.outbound.lock();
        outbound.forget_notify();
        outbound.take(framing, out);
        if let Some(farewell) = self.close_reason().and_then(CloseReason::farewell) {
            outbound::append(framing, &farewell, out);
        }
    }
}

/// What the session's task has to do besides reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Close,
    HalfOpen,
    Write,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("peer", &self.peer)
            .field("uid", &self.uid())
            .field("closed", &self.close_reason())
            .finish_non_exhaustive()
    }
}
