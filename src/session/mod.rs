//! One connection: who it is, what waits to be written to it, and how it ends.
//!
//! A session owns its socket: the task in [`connection`] alone reads and writes it. Everyone else holds the
//! [`Session`], which never waits.

pub mod connection;
pub mod manager;

pub use connection::{Handler, drive};
pub use manager::{Deadlines, Manager, SessionIds};

use std::fmt;
use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;

use crate::codec;
use crate::proto::{Cmd, Code, Reply, ResNotify};

/// Tells sessions apart; never used twice by one `imd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a session was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The peer has closed its side.
    PeerClosed,
    /// The connection broke.
    Broken,
    /// The user has logged out.
    Logout,
    /// The user has logged in on another session.
    LoggedInElsewhere,
    /// No login in time.
    LoginDeadline,
    /// No frame in time.
    Idle,
    /// A frame was begun and not completed in time.
    HalfFrame,
    /// The peer took nothing of what was written in time.
    WriteDeadline,
    /// More waits to be written to it than may.
    SessionBlocked,
    /// A frame is longer than it may be before the login.
    FrameTooLong,
    /// This server is stopping.
    Shutdown,
}

impl CloseReason {
    /// What it is called in logs.
    pub const fn label(self) -> &'static str {
        match self {
            CloseReason::PeerClosed => "peer_closed",
            CloseReason::Broken => "broken",
            CloseReason::Logout => "logout",
            CloseReason::LoggedInElsewhere => "logged_in_elsewhere",
            CloseReason::LoginDeadline => "login_deadline",
            CloseReason::Idle => "idle",
            CloseReason::HalfFrame => "half_frame",
            CloseReason::WriteDeadline => "write_deadline",
            CloseReason::SessionBlocked => "session_blocked",
            CloseReason::FrameTooLong => "frame_too_long",
            CloseReason::Shutdown => "shutdown",
        }
    }

    /// What the peer is told before the close, if anything. The others are plain to the peer, have been answered
    /// already, or happen where the contract allows no frame.
    const fn told(self) -> Option<(Code, &'static str)> {
        match self {
            CloseReason::LoggedInElsewhere => {
                Some((Code::LoggedInElsewhere, Code::LoggedInElsewhere.text()))
            }
            CloseReason::Shutdown => Some((Code::ServerError, "server error: shutting down")),
            _ => None,
        }
    }

    /// Whether the peer can't take another byte, so that the close needs no manners.
    const fn is_abrupt(self) -> bool {
        matches!(
            self,
            CloseReason::Broken | CloseReason::WriteDeadline | CloseReason::SessionBlocked
        )
    }
}

/// Why something could not be sent to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It is closed.
    #[error("the session is closed")]
    Closed,
    /// Too much waits for it already. It has been closed for that.
    #[error("the session does not take what is written to it")]
    SessionBlocked,
}

type Callback = Box<dyn FnOnce(&Session) + Send>;

/// What others know of a connection.
pub struct Session {
    id: SessionId,
    peer: SocketAddr,
    local: SocketAddr,
    /// When it was accepted, by the clock. So are the other times here.
    opened: Duration,
    /// Whose session it is; 0 before the login.
    uid: AtomicI64,
    last_frame: Instant,
    half_frame_since: Instant,
    write_stalled_since: Instant,
    outbound_limit: usize,
    outbound: Mutex<Outbound>,
    closed: OnceLock<CloseReason>,
    /// Run once by the close; none afterwards.
    on_close: Mutex<Option<Vec<Callback>>>,
}

/// What waits to be written.
#[derive(Default)]
struct Outbound {
    frames: BytesMut,
    /// Bytes that the session's task has taken and not yet written.
    in_flight: usize,
    /// One pending notify, whatever the number of messages it stands for.
    notify: Option<Pending>,
    /// The end of the last page on this session. From then on, that is how far this reader is: clients copy it from
    /// every notify.
    page_end: Option<i64>,
    /// The session's task, when it sleeps.
    task: Option<Waker>,
}

/// A notify that is not written yet.
#[derive(Debug, Clone, Copy)]
struct Pending {
    current: i64,
    total: i64,
}

impl Outbound {
    fn len(&self) -> usize {
        self.frames.len() + self.in_flight
    }

    fn has_work(&self) -> bool {
        !self.frames.is_empty() || self.notify.is_some()
    }

    /// The level as it is now, as a frame; nothing when a page has caught up with it meanwhile.
    fn encode_notify(&mut self) {
        let Some(Pending { current, total }) = self.notify.take() else {
            return;
        };
        let current = self.page_end.unwrap_or(current);
        if current >= total {
            return;
        }
        let notify = ResNotify {
            cmd: Cmd::Notify.number(),
            err_str: Code::Ok.text().into(),
            current_id: current,
            total_id: total,
            ..Default::default()
        };
        if let Err(error) = codec::encode(&notify, &mut self.frames) {
            tracing::error!(%error, "a notify was not sent");
        }
    }
}

/// A point in time that may be unset, in one atomic.
#[derive(Debug)]
struct Instant(AtomicU64);

impl Instant {
    const UNSET: u64 = u64::MAX;

    const fn unset() -> Self {
        Instant(AtomicU64::new(Self::UNSET))
    }

    fn set(&self, at: Duration) {
        self.0.store(
            u64::try_from(at.as_millis()).unwrap_or(Self::UNSET - 1),
            Ordering::Relaxed,
        );
    }

    fn set_if_unset(&self, at: Duration) {
        if self.get().is_none() {
            self.set(at);
        }
    }

    fn clear(&self) {
        self.0.store(Self::UNSET, Ordering::Relaxed);
    }

    fn get(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            Self::UNSET => None,
            ms => Some(Duration::from_millis(ms)),
        }
    }
}

impl Session {
    fn new(
        id: SessionId,
        (peer, local): (SocketAddr, SocketAddr),
        opened: Duration,
        outbound_limit: usize,
    ) -> Self {
        let last_frame = Instant::unset();
        last_frame.set(opened);
        Session {
            id,
            peer,
            local,
            opened,
            uid: AtomicI64::new(0),
            last_frame,
            half_frame_since: Instant::unset(),
            write_stalled_since: Instant::unset(),
            outbound_limit,
            outbound: Mutex::default(),
            closed: OnceLock::new(),
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
    pub fn uid(&self) -> Option<i64> {
        match self.uid.load(Ordering::Acquire) {
            0 => None,
            uid => Some(uid),
        }
    }

    /// Binds the user who has just logged in.
    pub fn log_in(&self, uid: i64) {
        self.uid.store(uid, Ordering::Release);
    }

    /// Queues a message for this session. Never waits.
    ///
    /// # Errors
    ///
    /// When the session is closed, or blocked: then it is closed for that.
    pub fn send(&self, reply: &Reply) -> Result<(), SendError> {
        if self.close_reason().is_some() {
            return Err(SendError::Closed);
        }
        let mut outbound = self.outbound.lock();
        encode(reply, &mut outbound.frames);
        let blocked = outbound.len() > self.outbound_limit;
        let task = outbound.task.take();
        drop(outbound);
        if let Some(task) = task {
            task.wake();
        }
        if blocked {
            self.close(CloseReason::SessionBlocked);
            return Err(SendError::SessionBlocked);
        }
        Ok(())
    }

    /// Queues the answer to one of this session's own requests. Only its own handler may call it: it wakes nobody, and
    /// what bounds it is that the session stops reading while too much waits.
    pub fn reply(&self, reply: &Reply) {
        encode(reply, &mut self.outbound.lock().frames);
    }

    /// Tells the client that there is something newer than `current`, up to `total`. Merges with one not yet written.
    pub fn notify(&self, current: i64, total: i64) {
        let mut outbound = self.outbound.lock();
        outbound.notify = Some(match outbound.notify {
            None => Pending { current, total },
            Some(old) => Pending {
                current: old.current.max(current),
                total: old.total.max(total),
            },
        });
        let task = outbound.task.take();
        drop(outbound);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Queues a page, which moves this reader to `end`; when it leaves something behind, a notify follows.
    pub fn page(&self, page: &Reply, end: i64, total: i64) {
        let mut outbound = self.outbound.lock();
        encode(page, &mut outbound.frames);
        outbound.page_end = Some(end);
        let newest = outbound
            .notify
            .map_or(total, |pending| pending.total.max(total));
        outbound.notify = (newest > end).then_some(Pending {
            current: end,
            total: newest,
        });
    }

    /// Closes the session. Only the first close counts; it runs the callbacks before it returns.
    pub fn close(&self, reason: CloseReason) {
        if self.closed.set(reason).is_err() {
            return;
        }
        if let Some((code, text)) = reason.told() {
            self.reply(&Reply::server(code, text));
        }
        let callbacks = self.on_close.lock().take();
        for callback in callbacks.into_iter().flatten() {
            callback(self);
        }
        let task = self.outbound.lock().task.take();
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Why it was closed, once it is.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.closed.get().copied()
    }

    /// Runs `callback` once when the session is closed: at once, if it is closed already.
    pub fn on_close(&self, callback: impl FnOnce(&Session) + Send + 'static) {
        if let Some(callbacks) = self.on_close.lock().as_mut() {
            callbacks.push(Box::new(callback));
            return;
        }
        callback(self);
    }

    /// Bytes that wait to be written.
    fn queued(&self) -> usize {
        self.outbound.lock().len()
    }

    /// Whether there is something to do for the session's task, which is woken when there is.
    fn poll_work(&self, cx: &Context<'_>) -> Option<Work> {
        let mut outbound = self.outbound.lock();
        if self.close_reason().is_some() {
            return Some(Work::Close);
        }
        if outbound.in_flight == 0 && outbound.has_work() {
            return Some(Work::Write);
        }
        match &mut outbound.task {
            Some(task) => task.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        None
    }

    /// Hands what waits to the session's task, which writes it.
    fn take_outbound(&self) -> BytesMut {
        let mut outbound = self.outbound.lock();
        outbound.encode_notify();
        let frames = std::mem::take(&mut outbound.frames);
        outbound.in_flight = frames.len();
        frames
    }

    /// The task has written what it took.
    fn written(&self) {
        self.outbound.lock().in_flight = 0;
        self.write_stalled_since.clear();
    }
}

/// What the session's task has to do besides reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Close,
    Write,
}

/// A reply that does not fit a frame is a fault of this server, and answered as one.
fn encode(reply: &Reply, frames: &mut BytesMut) {
    if let Err(error) = codec::encode(reply, frames) {
        tracing::error!(%error, "a reply was not sent");
        let sorry = Reply::server(Code::ServerError, Code::ServerError.text());
        if let Err(error) = codec::encode(&sorry, frames) {
            tracing::error!(%error, "nor was the error in its place");
        }
    }
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
