//! What a connection does while the lab watches it: frames are recorded, and faults met.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::BytesMut;
use prost::Message;

use super::attended::beside_wait;
use super::held::HeldFrame;
use super::{Connection, Handler};
use crate::codec::Encoded;
use crate::command::Command;
use crate::id::Version;
use crate::lab::{Action, Direction, Hit, Hold, What};
use crate::proto::{Cmd, Code, Payload, Reply, ResNotify};
use crate::session::{CloseReason, Session, Turn, outbound};

impl<H: Handler> Connection<H> {
    /// Does what a fault says to a connection that was just accepted.
    pub(super) async fn accepted(&mut self) {
        let Some(hit) = self.server.tap.meet_accept(&self.session) else {
            return;
        };
        match hit.action {
            Action::Delay { .. } => self.attended(wait(&self.session, hit.hold)).await,
            Action::Drop => self.cut(CloseReason::Dropped),
            Action::Reset => self.cut(CloseReason::Reset),
            Action::HalfOpen => self.session.half_open(),
            _ => {}
        }
    }

    /// Takes a frame that came, or does with it what a fault says.
    pub(super) async fn take(
        &mut self,
        turn: &mut Turn<H::Open>,
        message: &[u8],
    ) -> io::Result<()> {
        let server = Arc::clone(&self.server);
        let what = What::Frame(Direction::In);
        server.tap.record(&self.session, what, message);
        self.take_released(turn).await?;
        let mut held = self.rest.as_mut().and_then(|rest| rest.held_request.take());
        let place = server.tap.place();
        let can = |action: &Action| match action {
            // This frame is the one that overtakes.
            Action::Reorder => held.is_none(),
            // What can't be read is refused anyway.
            Action::Error(_) => Command::decode(message, place).is_ok(),
            _ => true,
        };
        match server.tap.meet_request(&self.session, message, can) {
            Some(hit) => {
                self.apply_to_request(turn, message, hit, &mut held).await?;
            }
            None => self.attended(server.handler.frame(turn, message)).await,
        }
        if let Some(held) = held {
            self.take_held(turn, *held).await?;
        }
        Ok(())
    }

    /// Does with a request what a fault says. `held` is the request that waits for this one.
    async fn apply_to_request(
        &mut self,
        turn: &mut Turn<H::Open>,
        message: &[u8],
        hit: Hit,
        held: &mut Option<Box<HeldFrame>>,
    ) -> io::Result<()> {
        let server = Arc::clone(&self.server);
        match hit.action {
            Action::Delay { .. } => {
                let session = Arc::clone(&self.session);
                let mut waited = pin!(wait_beside(&session, hit.hold, held));
                let (flushed, ended) = beside_wait(self.flush(turn), waited.as_mut()).await;
                flushed?;
                if let Some((held, hold)) = self.rest_of(ended, waited).await {
                    let mut waited = pin!(wait(&session, hold));
                    let taken = self.take_held(turn, *held);
                    let (taken, ended) = beside_wait(taken, waited.as_mut()).await;
                    taken?;
                    self.rest_of(ended, waited).await;
                }
                self.attended(server.handler.frame(turn, message)).await;
            }
            Action::Drop => {}
            Action::Duplicate => {
                self.attended(server.handler.frame(turn, message)).await;
                self.attended(server.handler.frame(turn, message)).await;
            }
            Action::Reorder => {
                let held = HeldFrame::new(message.into(), Some(turn.read_at), hit.hold);
                self.rest.get_or_insert_default().held_request = Some(held);
            }
            Action::Error(code) => {
                self.attended(server.handler.finish(turn)).await;
                let reply = match Command::decode(message, server.tap.place()) {
                    Ok((command, _)) => server.handler.refuse(command.reply(), code),
                    Err(bad) => bad.reply(),
                };
                turn.reply(&reply);
            }
            Action::Reset => self.cut(CloseReason::Reset),
            Action::HalfOpen => {
                self.flush(turn).await?;
                self.session.half_open();
            }
            _ => self.attended(server.handler.frame(turn, message)).await,
        }
        Ok(())
    }

    /// Writes what the turn has answered so far, and tells whom it concerns: a fault may take its time.
    pub(super) async fn flush(&mut self, turn: &mut Turn<H::Open>) -> io::Result<()> {
        let server = Arc::clone(&self.server);
        self.attended(server.handler.finish(turn)).await;
        server.handler.answered(std::mem::take(&mut turn.open));
        let (out, read_at) = (std::mem::take(&mut turn.out), Some(turn.read_at));
        self.write_watched(out, turn.counted, read_at).await?;
        turn.counted = 0;
        Ok(())
    }

    /// As `write`, for frames that may meet faults; waits until the socket has taken all that is to leave.
    pub(super) async fn write_watched(
        &mut self,
        mut out: BytesMut,
        counted: usize,
        read_at: Option<Instant>,
    ) -> io::Result<()> {
        let answers = out.split_off(counted.min(out.len()));
        // The rest of frames that have met theirs.
        self.push(&out).await?;
        self.session.stall(0);
        let mut leaving = Leaving::default();
        if let Some(held) = self.released_reply() {
            leaving.add(&held.frame, held.read_at);
        }
        self.pass_all(&answers, read_at, &mut leaving).await?;
        if self.is_mute() {
            return Ok(());
        }
        // Behind them, so that a notify says where a page has left this reader that met a fault.
        let mut queued = BytesMut::new();
        self.session.take_outbound(self.server.framing, &mut queued);
        self.pass_all(&queued, None, &mut leaving).await?;
        if self.is_mute() {
            return Ok(());
        }
        self.leave(&mut leaving).await
    }

    /// Lets whole frames leave behind those in `leaving`, as far as faults let them. They answer requests that were read at
    /// `read_at`, if any.
    async fn pass_all(
        &mut self,
        frames: &[u8],
        read_at: Option<Instant>,
        leaving: &mut Leaving,
    ) -> io::Result<()> {
        for (message, taken) in self.server.framing.frames(frames) {
            let mut held = self.rest.as_mut().and_then(|rest| rest.held_reply.take());
            let can = |action: &Action| match *action {
                // This frame is the one that overtakes.
                Action::Reorder => held.is_none(),
                Action::Slice(bytes) => bytes < taken,
                Action::Error(_) | Action::Gap | Action::Stale => {
                    self.changed(message, *action).is_some()
                }
                _ => true,
            };
            let hit = self.server.tap.meet_reply(&self.session, message, can);
            self.pass((message, read_at), hit, &mut held, leaving)
                .await?;
            if self.is_mute() {
                return Ok(());
            }
            if let Some(held) = held {
                leaving.add(&held.frame, held.read_at);
            }
        }
        Ok(())
    }

    /// Lets a frame leave behind those in `leaving`, or does with it what a fault says. `held` is the frame that waits for
    /// this one.
    async fn pass(
        &mut self,
        (message, read_at): (&[u8], Option<Instant>),
        hit: Option<Hit>,
        held: &mut Option<Box<HeldFrame>>,
        leaving: &mut Leaving,
    ) -> io::Result<()> {
        let frame = self.framed(&Encoded(message));
        let Some(hit) = hit else {
            leaving.add(&frame, read_at);
            return Ok(());
        };
        match hit.action {
            Action::Drop => self.page_lost(message),
            Action::Duplicate => {
                leaving.add(&frame, read_at);
                leaving.add(&frame, None);
            }
            Action::Reorder => {
                let held = HeldFrame::new(frame, read_at, hit.hold);
                self.rest.get_or_insert_default().held_reply = Some(held);
            }
            Action::Error(_) | Action::Gap | Action::Stale => {
                let changed = self.changed(message, hit.action);
                if matches!(hit.action, Action::Error(_)) {
                    self.page_lost(message);
                }
                leaving.add(&changed.unwrap_or(frame), read_at);
            }
            // What takes its time, or ends it: what came before it has left. A timer runs already, and is looked at
            // meanwhile: who moves the clock does not wait for what may rest.
            Action::Delay { .. } => {
                let session = Arc::clone(&self.session);
                let mut waited = pin!(wait_beside(&session, hit.hold, held));
                let (left, ended) = beside_wait(self.leave(leaving), waited.as_mut()).await;
                left?;
                if let Some((held, hold)) = self.rest_of(ended, waited).await {
                    leaving.add(&held.frame, held.read_at);
                    let mut waited = pin!(wait(&session, hold));
                    let (left, ended) = beside_wait(self.leave(leaving), waited.as_mut()).await;
                    left?;
                    self.rest_of(ended, waited).await;
                }
                leaving.add(&frame, read_at);
            }
            Action::Throttle(rate) => {
                let hold = hit.hold;
                self.throttle(&frame, read_at, (rate, hold), leaving)
                    .await?;
            }
            _ => {
                self.leave(leaving).await?;
                self.suffer(&frame, read_at, hit.action, leaving).await?;
            }
        }
        Ok(())
    }

    /// If this answer is a page, the peer does not get it.
    fn page_lost(&self, message: &[u8]) {
        let reply = Cmd::of(message).and_then(|cmd| Reply::decode(cmd, message));
        if let Some(Reply::Sync(page)) = reply {
            let before = page.msgs.first().map(|first| first.increment_id - 1);
            let begin = before.unwrap_or(page.current_id);
            self.session
                .page_lost(Version(begin), Version(page.current_id));
        }
    }

    /// What an action makes of a frame whose contents it changes; none where it changes nothing.
    fn changed(&self, message: &[u8], action: Action) -> Option<BytesMut> {
        let changed = match action {
            Action::Error(code) => self.refused(message, code),
            Action::Gap => self.ahead(message),
            Action::Stale => self.stale(message),
            _ => None,
        };
        changed.filter(|changed| *changed != self.framed(&Encoded(message)))
    }

    /// Lets a frame leave at that rate; what is left of it when the rule ends leaves at once.
    async fn throttle(
        &mut self,
        frame: &[u8],
        read_at: Option<Instant>,
        (rate, mut hold): (u64, Hold),
        leaving: &mut Leaving,
    ) -> io::Result<()> {
        let session = Arc::clone(&self.session);
        hold.beside(self.leave(leaving)).await?;
        self.went(frame, None);
        let mut left = frame;
        while !left.is_empty() {
            self.attended(or_left(&session, hold.wait())).await;
            let is_over = hold.is_released() || session.is_left();
            let size = if is_over {
                left.len()
            } else {
                Action::piece(rate)
            };
            let (piece, rest) = left.split_at(size.min(left.len()));
            left = rest;
            if left.is_empty() {
                self.answered(frame, read_at);
            }
            hold.beside(self.push(piece)).await?;
        }
        Ok(())
    }

    async fn suffer(
        &mut self,
        frame: &BytesMut,
        read_at: Option<Instant>,
        action: Action,
        leaving: &mut Leaving,
    ) -> io::Result<()> {
        match action {
            Action::Slice(bytes) => {
                self.went(frame, read_at);
                for slice in frame.chunks(bytes) {
                    self.push(slice).await?;
                    // Else the network may put them together again.
                    tokio::task::yield_now().await;
                }
            }
            Action::Truncate => {
                self.push(frame.get(..frame.len() / 2).unwrap_or_default())
                    .await?;
                self.cut(CloseReason::Dropped);
            }
            Action::Reset => self.cut(CloseReason::Reset),
            Action::HalfOpen => self.session.half_open(),
            _ => leaving.add(frame, read_at),
        }
        Ok(())
    }

    /// Writes whole frames that have met no fault, or have survived it.
    async fn leave(&mut self, leaving: &mut Leaving) -> io::Result<()> {
        let Leaving { frames, answers } = std::mem::take(leaving);
        self.went(&frames, None);
        for (frame, read_at) in answers {
            let frame = frames.get(frame).unwrap_or_default();
            self.answered(frame, Some(read_at));
        }
        self.push(&frames).await
    }

    /// An answer is about to be written, or the last piece of it.
    fn answered(&self, frame: &[u8], read_at: Option<Instant>) {
        if let Some(read_at) = read_at {
            let traffic = self.server.metrics.traffic();
            for (message, _) in self.server.framing.frames(frame) {
                traffic.answered(message, read_at.elapsed());
            }
        }
    }

    /// Writes, and waits until the socket has taken it or the session closes: then what is left is kept for its end. On
    /// one that is half-open it is lost.
    async fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() && self.session.is_served() {
            let (transport, session, manager) =
                (&mut self.transport, &self.session, &self.server.manager);
            // What rests writes nothing either.
            poll_fn(|cx| {
                if session.is_served() && manager.rests(session, cx) {
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
            session.timers.write_stalled(manager.clock().now());
            let written = tokio::select! {
                biased;
                () = poll_fn(|cx| session.poll_over(cx)) => break,
                written = transport.write(left) => written?,
            };
            session.timers.write_goes_on();
            left = left.get(written..).unwrap_or_default();
        }
        if !left.is_empty() {
            let rest = self.rest.get_or_insert_default();
            rest.unwritten.extend_from_slice(left);
        }
        Ok(())
    }

    /// Forgets what comes and says nothing, until the peer hangs up, this server ends, or the session is cut.
    pub(super) async fn stand_still(&mut self) {
        self.rest = None;
        let (session, shutdown) = (&self.session, self.server.manager.shutdown());
        tokio::select! {
            // However it ends.
            _ = self.transport.drain() => session.close(CloseReason::PeerClosed),
            () = shutdown.begun() => {}
            () = poll_fn(|cx| session.poll_cut(cx)) => {}
        }
    }

    /// Ends the session without a word.
    fn cut(&mut self, reason: CloseReason) {
        self.rest.get_or_insert_default().is_mute = true;
        self.session.close(reason);
    }

    /// The frame of a message.
    fn framed(&self, message: &impl Payload) -> BytesMut {
        let mut frame = BytesMut::new();
        outbound::append(self.server.framing, message, &mut frame);
        frame
    }

    /// The same answer with another code, if it can have one.
    fn refused(&self, message: &[u8], code: Code) -> Option<BytesMut> {
        let reply = Reply::decode(Cmd::of(message)?, message)?;
        Some(self.framed(&reply.refused(code)))
    }

    /// The same notify of one message more than there is.
    fn ahead(&self, message: &[u8]) -> Option<BytesMut> {
        let notify = ResNotify::decode(message).ok()?;
        Some(self.framed(&ResNotify {
            total_id: notify.total_id.saturating_add(1),
            ..notify
        }))
    }

    /// The answer of the gateway with an address that is no longer good, if it ever listed one.
    fn stale(&self, message: &[u8]) -> Option<BytesMut> {
        match Reply::decode(Cmd::ReqAccessServer, message)? {
            // As long as it stood on the list, there was an access server.
            Reply::SelectAccess(reply) if reply.cmd == Cmd::ReqAccessServer.number() => {
                let gone = self.server.tap.gone_address()?;
                Some(self.framed(&Reply::select_access(gone)))
            }
            _ => None,
        }
    }
}

/// Whole frames that are about to be written.
#[derive(Default)]
struct Leaving {
    frames: BytesMut,
    /// Which of them answer requests, and when these were read.
    answers: Vec<(Range<usize>, Instant)>,
}

impl Leaving {
    fn add(&mut self, frame: &[u8], read_at: Option<Instant>) {
        let start = self.frames.len();
        self.frames.extend_from_slice(frame);
        let answer = read_at.map(|read_at| (start..self.frames.len(), read_at));
        self.answers.extend(answer);
    }
}

/// Waits until something is held no more, at most until the session closes or its peer has hung up.
async fn wait(session: &Session, mut hold: Hold) {
    or_left(session, hold.wait()).await;
}

/// As [`wait`]. Where the rule ends before that holds back a frame for this one, that frame is returned at once, with what
/// is left to be waited for. The timer is given up with the wait: else whoever moves the clock would wait for it.
async fn wait_beside(
    session: &Session,
    mut hold: Hold,
    held: &mut Option<Box<HeldFrame>>,
) -> Option<(Box<HeldFrame>, Hold)> {
    let released = async {
        match held.as_mut() {
            Some(held) => held.released().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = released => {}
        () = or_left(session, hold.wait()) => return None,
    }
    Some((held.take()?, hold))
}

async fn or_left<T>(session: &Session, what: impl Future<Output = T>) {
    tokio::select! {
        _ = what => {}
        () = session.left() => {}
    }
}
