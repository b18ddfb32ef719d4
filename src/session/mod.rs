//! Sessions: the connections of clients to the gateway and to the access servers.
//!
//! Serves the listeners, which open sessions, and everything that closes or lists them. The services see a session only as
//! a [`SessionHandle`](crate::directory::SessionHandle).
//!
//! The task in [`connection`] owns the transport: it alone reads and writes it. All others hold the [`Session`], whose
//! methods never wait for that task. The callbacks of a session run once, at its first close.
//!
//! # The states of a session
//!
//! | state | what holds in it | what ends it |
//! |---|---|---|
//! | open, nobody logged in | commands that need a login are refused; the login deadline runs (at the gateway: the idle one) | a login, a close |
//! | open, logged in | all commands are served, notifies are sent, the idle deadline runs | a close |
//! | half-open | what arrives is discarded, nothing is written, no deadline runs | a hang-up, the server's end, some closes |
//! | closed, draining | no further request is taken; requests in progress are completed, and the farewell is put behind the last replies | all requests are done |
//! | done | nothing is recorded or stored any more; the last bytes are written, and the peer gets a moment to close its side | the end of the task |
//!
//! [`Session::log_in`] is called once at most: a session never returns to the first state, and a logout closes it.
//! [`Session::half_open`] comes from a fault or from the admin API; afterwards only a reason that
//! [ends a half-open session](CloseReason::ends_half_open) closes it. [`Session::close`] leads from both open states to the
//! fourth, and runs the close callbacks on the way. An abrupt reason, such as a kill, leaves out the last bytes. A pause of
//! the server is no state of a session: while it lasts, each session stays in its state.
//!
//! | file | content |
//! |---|---|
//! | `connection` | the task of a session |
//! | `request_batch` | the requests of one read, and the replies to them |
//! | `reply_buffer` | the replies of a batch on their way to the write |
//! | `output_state`, `pushes` | what a session still has to write: its pending notify, pushed messages, and how far its client has read |
//! | `first_notify` | the wait of the notify that follows a login |
//! | `handle` | the session as services and directories see it |
//! | `manager`, `listener_context` | the sessions of one listener, and what they share |
//! | `deadlines`, `sweep` | the deadlines of a session, and the search for those who have missed one |
//! | `fault_point`, `held_frame` | injected faults |
//! | `close`, `pause` | why a session ends, and the pause of a server |
//! | `buffer_pool` | read and write buffers that are not in use |

mod buffer_pool;
mod close;
pub mod connection;
mod deadlines;
mod fault_point;
mod first_notify;
mod handle;
mod held_frame;
mod listener_context;
pub mod manager;
mod output_state;
mod pause;
mod pushes;
mod reply_buffer;
mod request_batch;
mod sweep;

pub use crate::directory::SessionId;
pub use close::CloseReason;
pub use connection::{Connection, Handler};
pub use deadlines::Deadlines;
pub use fault_point::FaultPoint;
pub use first_notify::FirstNotifies;
pub use listener_context::ListenerContext;
pub use manager::{SessionIds, SessionManager};
pub use pause::Pause;
pub use request_batch::RequestBatch;

use std::fmt;
use std::future::poll_fn;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;

use crate::codec::{Framing, MAX_FRAME};
use crate::id::{Uid, Version};
use crate::lab;
use crate::sharded::Sharded;
use crate::store::Entry;
use deadlines::Timers;
use output_state::OutputState;

/// The sessions of one listener, by id.
type Sessions = Sharded<SessionId, Arc<Session>>;

type Callback = Box<dyn FnOnce(&Session) + Send>;

/// The state of a client's connection that its task shares with everyone else.
pub struct Session {
    id: SessionId,
    addresses: Addresses,
    /// The user who is logged in; 0 before the login.
    uid: AtomicI64,
    timers: Timers,
    /// The number of unwritten bytes above which no further request is taken, and no message is pushed. As a `usize` it would
    /// take 8 bytes more of every session.
    congestion_limit: u32,
    output: Mutex<OutputState>,
    half_open: AtomicBool,
    /// Whether the peer was seen to have hung up while a fault held something.
    hung_up: AtomicBool,
    closed: OnceLock<CloseReason>,
    /// The reason that ends the session even if it is half-open. It takes precedence over `closed`, which may have been set
    /// before it.
    forced: OnceLock<CloseReason>,
    /// Whether all requests that the session has read are done.
    is_done: AtomicBool,
    /// What the close will run: all callbacks that are registered before it, in one. None once the close has taken it.
    on_close: Mutex<Option<Callback>>,
}

/// The two ends of a session's connection, in the form that takes the least room: 12 bytes in place of 64 for IPv4.
#[derive(Debug)]
enum Addresses {
    V4(Ends<SocketAddrV4>),
    Any(Box<Ends<SocketAddr>>),
}

#[derive(Debug)]
struct Ends<A> {
    /// The client's address.
    peer: A,
    /// The address by which the client has reached this server.
    local: A,
}

impl Addresses {
    fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        match (peer, local) {
            (SocketAddr::V4(peer), SocketAddr::V4(local)) => Addresses::V4(Ends { peer, local }),
            _ => Addresses::Any(Box::new(Ends { peer, local })),
        }
    }

    fn peer(&self) -> SocketAddr {
        match self {
            Addresses::V4(ends) => ends.peer.into(),
            Addresses::Any(ends) => ends.peer,
        }
    }

    fn local(&self) -> SocketAddr {
        match self {
            Addresses::V4(ends) => ends.local.into(),
            Addresses::Any(ends) => ends.local,
        }
    }
}

impl Session {
    fn new(id: SessionId, addresses: Addresses, opened: Duration, unwritten_limit: usize) -> Self {
        Session {
            id,
            addresses,
            uid: AtomicI64::new(0),
            timers: Timers::new(opened),
            // Half of the limit, since the requests that were taken before still add their replies.
            congestion_limit: u32::try_from(unwritten_limit / 2).unwrap_or(u32::MAX),
            output: Mutex::default(),
            half_open: AtomicBool::new(false),
            hung_up: AtomicBool::new(false),
            closed: OnceLock::new(),
            forced: OnceLock::new(),
            is_done: AtomicBool::new(false),
            on_close: Mutex::default(),
        }
    }

    /// Returns the id of the session.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Returns the client's address.
    pub fn peer(&self) -> SocketAddr {
        self.addresses.peer()
    }

    /// Returns the address by which the client has reached this server.
    pub fn local(&self) -> SocketAddr {
        self.addresses.local()
    }

    /// Returns the user who is logged in, if one is.
    pub fn uid(&self) -> Option<Uid> {
        Uid::nonzero(self.uid.load(Ordering::Acquire))
    }

    /// Binds the session to the user who has just logged in. Called once at most: another login on the session has to be of
    /// the same user, and changes nothing here.
    pub fn log_in(&self, uid: Uid) {
        self.uid.store(uid.0, Ordering::Release);
    }

    /// Notes that a page is written next, which ends at `end` of an inbox whose newest version is `total`.
    fn page_served(&self, end: Version, total: Version) {
        self.output.lock().page_served(end, total);
    }

    /// Notes that a fault keeps the page from `begin` to `end` from reaching the client.
    fn page_lost(&self, begin: Version, end: Version) {
        self.output.lock().page_lost(begin, end);
    }

    /// Tells the client that there are messages after `current`, up to `total`. Returns whether this was merged with a
    /// notify that is not written yet.
    pub fn notify(&self, current: Version, total: Version) -> bool {
        self.change_and_wake(|output| output.notify(current, total))
    }

    /// Pushes a message to the client, which is the receiver of it. Returns false if that is not done: because a page has
    /// brought the message already, too much waits to be written, or the session is closed or half-open.
    pub fn push(&self, entry: &Entry) -> bool {
        let Some(receiver) = self.uid().filter(|_| self.is_served()) else {
            return false;
        };
        let limit = self.congestion_limit();
        self.change_and_wake(|output| output.push(receiver, entry, limit))
    }

    /// Has the client told that there are messages after `current`, up to `total`, unless it has read them when the wait
    /// [ends](Self::end_wait). Returns whether a wait has to begin: not if a notify is pending or waits already.
    fn notify_after_wait(&self, current: Version, total: Version) -> bool {
        self.output.lock().notify_after_wait(current, total)
    }

    /// Ends the wait of a notify, so that it is written next. Has no effect if none waits any more.
    fn end_wait(&self) {
        self.change_and_wake(OutputState::end_wait);
    }

    /// Changes the output state, and wakes the session's task.
    fn change_and_wake<T>(&self, change: impl FnOnce(&mut OutputState) -> T) -> T {
        let mut output = self.output.lock();
        let result = change(&mut output);
        let task = output.task.take();
        drop(output);
        if let Some(task) = task {
            task.wake();
        }
        result
    }

    /// Closes the session: its task writes the farewell of this reason, if it has one, and ends. Only the first close
    /// counts, except for a reason that [ends a half-open session](CloseReason::ends_half_open). The first close runs the
    /// callbacks before it returns.
    pub fn close(&self, reason: CloseReason) {
        let is_forced = reason.ends_half_open() && self.forced.set(reason).is_ok();
        if self.closed.set(reason).is_err() {
            if is_forced {
                self.wake();
            }
            return;
        }
        let callback = self.on_close.lock().take();
        if let Some(callback) = callback {
            callback(self);
        }
        self.wake();
    }

    /// Leaves the session half-open, as if the peer were behind a dead link: what arrives is discarded, nothing is written,
    /// and no deadline is missed. The session ends when the peer hangs up, when this server ends, or when it is closed for
    /// a reason that [ends a half-open session](CloseReason::ends_half_open).
    pub fn half_open(&self) {
        self.half_open.store(true, Ordering::Release);
        self.wake();
    }

    /// Returns whether the session was left [half-open](Self::half_open).
    #[inline]
    pub fn is_half_open(&self) -> bool {
        !lab::IS_LEFT_OUT && self.half_open.load(Ordering::Acquire)
    }

    /// Returns whether requests are handled: the session is neither closed nor half-open.
    #[inline]
    fn is_served(&self) -> bool {
        self.close_reason().is_none() && !self.is_half_open()
    }

    /// Notes that the peer has hung up while a fault held something. From now on no fault holds anything for this session:
    /// its task handles at once what the peer has sent, and comes to its end.
    fn note_hang_up(&self) {
        self.hung_up.store(true, Ordering::Release);
        self.wake();
    }

    /// Returns whether no fault needs to hold anything for this session any more: its peer has hung up, or it is closed or
    /// half-open.
    fn is_abandoned(&self) -> bool {
        !self.is_served() || self.hung_up.load(Ordering::Acquire)
    }

    /// Wakes the session's task, so that it checks the state of the session.
    fn wake(&self) {
        self.change_and_wake(|_| {});
    }

    /// Returns why the session was closed; none while it is open.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.forced.get().or(self.closed.get()).copied()
    }

    /// Returns whether the session has done everything for the requests that it has read, and the journal gets no more of
    /// its events. It may still wait for the peer to take the last bytes.
    pub fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }

    fn note_done(&self) {
        self.is_done.store(true, Ordering::Release);
    }

    /// Runs `callback` once when the session is closed: at once, if it is closed already.
    pub fn on_close(&self, callback: impl FnOnce(&Session) + Send + 'static) {
        let mut on_close = self.on_close.lock();
        // Checked under the lock: a close that is not seen here takes the callback afterwards.
        if self.close_reason().is_some() {
            drop(on_close);
            return callback(self);
        }
        // A session has one callback, from its login. A list would take more room, which every session would pay for.
        *on_close = Some(match on_close.take() {
            None => Box::new(callback),
            Some(earlier) => Box::new(move |session| {
                earlier(session);
                callback(session);
            }),
        });
    }

    /// Returns whether the session has nothing to do: every request is answered and everything is written, also the notify
    /// that waits after a login. A frame that `reorder` holds does not count, and a half-open session is always settled.
    pub fn is_settled(&self) -> bool {
        self.is_half_open() || self.timers.is_awaiting_peer() && self.output.lock().is_empty()
    }

    /// Returns whether no further request is taken, because this many bytes are unwritten.
    fn is_congested(&self, unwritten: usize) -> bool {
        unwritten > self.congestion_limit()
    }

    fn congestion_limit(&self) -> usize {
        usize::try_from(self.congestion_limit).unwrap_or(usize::MAX)
    }

    /// Returns the length of the longest frame that the client may send, in bytes. `before_login` is that limit before the
    /// login.
    fn max_frame(&self, before_login: usize) -> usize {
        match self.uid() {
            Some(_) => MAX_FRAME,
            None => before_login,
        }
    }

    /// Returns how many bytes of replies, notifies and pushed messages the socket has not taken yet.
    pub fn queued(&self) -> usize {
        self.output.lock().queued()
    }

    /// Returns what the session's task has to do besides reading. If there is nothing, the task is woken when there is.
    fn poll_work(&self, cx: &Context<'_>) -> Option<Work> {
        let mut output = self.output.lock();
        if self.is_half_open() {
            return Some(Work::HalfOpen);
        }
        if self.close_reason().is_some() {
            return Some(Work::Close);
        }
        if output.has_work() {
            return Some(Work::Write);
        }
        output.park(cx);
        None
    }

    /// Waits until no fault needs to hold anything for this session any more; only the session's own task is woken.
    async fn abandoned(&self) {
        poll_fn(|cx| self.poll_abandoned(cx)).await;
    }

    /// Resolves when no fault needs to hold anything for this session any more: its peer has hung up, or it is closed or
    /// half-open. Its task is woken then.
    fn poll_abandoned(&self, cx: &Context<'_>) -> Poll<()> {
        let mut output = self.output.lock();
        if self.is_abandoned() {
            return Poll::Ready(());
        }
        output.park(cx);
        Poll::Pending
    }

    /// Resolves when requests are no longer handled: the session is closed or half-open. Its task is woken then.
    fn poll_unserved(&self, cx: &Context<'_>) -> Poll<()> {
        let mut output = self.output.lock();
        if !self.is_served() {
            return Poll::Ready(());
        }
        output.park(cx);
        Poll::Pending
    }

    /// Resolves when the session was closed for a reason that ends it even if it is half-open; its task is woken then.
    fn poll_forced_close(&self, cx: &Context<'_>) -> Poll<()> {
        let mut output = self.output.lock();
        if self.forced.get().is_some() {
            return Poll::Ready(());
        }
        // A close for any other reason is not visible to the peer of a half-open session.
        output.park(cx);
        Poll::Pending
    }

    /// Registers the session's task to be woken when a notify or a pushed message is pending, and when the session is closed or woken.
    fn park(&self, cx: &Context<'_>) {
        self.output.lock().park(cx);
    }

    /// Appends the pushed messages and the pending notify to `out`, which may hold the replies of this read already. Returns
    /// how many messages were appended. Called by the session's task when nothing is left of an earlier write.
    fn take_unrequested(&self, framing: Framing, out: &mut BytesMut) -> u64 {
        let mut output = self.output.lock();
        if self.close_reason().is_some() {
            output.forget_unrequested();
        }
        output.set_unwritten(0);
        let receiver = self.uid().unwrap_or_default();
        let pushed = output.take_pushes(receiver, framing, self.congestion_limit(), out);
        output.take_notify(framing, out);
        pushed
    }

    /// Sets how many of the task's bytes the socket has not taken.
    fn set_unwritten(&self, unwritten: usize) {
        self.output.lock().set_unwritten(unwritten);
    }

    /// Appends the last frame of the session: the farewell of its close reason, if there is one. A pending notify and pushed
    /// messages are discarded.
    fn take_final_output(&self, framing: Framing, out: &mut BytesMut) {
        let mut output = self.output.lock();
        output.forget_unrequested();
        output.set_unwritten(0);
        if let Some(farewell) = self.close_reason().and_then(CloseReason::farewell) {
            reply_buffer::append(framing, &farewell, out);
        }
    }
}

/// What a session's task has to do besides reading.
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
            .field("peer", &self.peer())
            .field("uid", &self.uid())
            .field("closed", &self.close_reason())
            .finish_non_exhaustive()
    }
}
