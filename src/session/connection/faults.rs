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

use super::hang_up::run_beside_wait;
use super::held_frame::HeldFrame;
use super::{Connection, Handler};
use crate::codec::Encoded;
use crate::command::Command;
use crate::id::Version;
use crate::lab::{Action, Direction, EventKind, Hit, Hold};
use crate::proto::{Cmd, Code, Payload, Reply, ResNotify};
use crate::session::{CloseReason, RequestBatch, Session, outbound};

impl<H: Handler> Connection<H> {
    /// Does what a fault says to a connection that was just accepted.
    pub(super) async fn apply_accept_fault(&mut self) {
        let Some(hit) = self.server.fault_point.check_accept(&self.session) else {
            return;
        };
        match hit.action {
            Action::Delay { .. } => self.with_hang_up_watch(wait(&self.session, hit.hold)).await,
            Action::Drop => self.end_silently(CloseReason::Dropped),
            Action::Reset => self.end_silently(CloseReason::Reset),
            Action::HalfOpen => self.session.half_open(),
            _ => {}
        }
    }

    /// Takes a frame that came, or does with it what a fault says.
    pub(super) async fn handle_with_faults(
        &mut self,
        batch: &mut RequestBatch<H::Pending>,
        message: &[u8],
    ) -> io::Result<()> {
        let server = Arc::clone(&self.server);
        let what = EventKind::Frame(Direction::In);
        server.fault_point.record(&self.session, what, message);
        self.handle_released_request(batch).await?;
        let mut held = self
            .backlog
            .as_mut()
            .and_then(|backlog| backlog.held_request.take());
        let listener = server.fault_point.listener();
        let can = |action: &Action| match action {
            // This frame is the one that overtakes.
            Action::Reorder => held.is_none(),
            // What can't be read is refused anyway.
            Action::Error(_) => Command::decode(message, listener).is_ok(),
            _ => true,
        };
        match server
            .fault_point
            .check_request(&self.session, message, can)
        {
            Some(hit) => {
                self.apply_to_request(batch, message, hit, &mut held)
                    .await?;
            }
            None => {
                self.with_hang_up_watch(server.handler.frame(batch, message))
                    .await
            }
        }
        if let Some(held) = held {
            self.handle_held_request(batch, *held).await?;
        }
        Ok(())
    }

    /// Does with a request what a fault says. `held` is the request that waits for this one.
    async fn apply_to_request(
        &mut self,
        batch: &mut RequestBatch<H::Pending>,
        message: &[u8],
        hit: Hit,
        held: &mut Option<Box<HeldFrame>>,
    ) -> io::Result<()> {
        let server = Arc::clone(&self.server);
        match hit.action {
            Action::Delay { .. } => {
                let session = Arc::clone(&self.session);
                let mut waited = pin!(wait_beside(&session, hit.hold, held));
                let (flushed, ended) = run_beside_wait(self.flush(batch), waited.as_mut()).await;
                flushed?;
                if let Some((held, hold)) = self.finish_wait(ended, waited).await {
                    let mut waited = pin!(wait(&session, hold));
                    let taken = self.handle_held_request(batch, *held);
                    let (taken, ended) = run_beside_wait(taken, waited.as_mut()).await;
                    taken?;
                    self.finish_wait(ended, waited).await;
                }
                self.with_hang_up_watch(server.handler.frame(batch, message))
                    .await;
            }
            Action::Drop => {}
            Action::Duplicate => {
                self.with_hang_up_watch(server.handler.frame(batch, message))
                    .await;
                self.with_hang_up_watch(server.handler.frame(batch, message))
                    .await;
            }
            Action::Reorder => {
                let held = HeldFrame::new(message.into(), Some(batch.read_at), hit.hold);
                self.backlog.get_or_insert_default().held_request = Some(held);
            }
            Action::Error(code) => {
                self.with_hang_up_watch(server.handler.finish(batch)).await;
                let reply = match Command::decode(message, server.fault_point.listener()) {
                    Ok((command, _)) => server.handler.refuse(command.reply(), code),
                    Err(bad) => bad.reply(),
                };
                batch.reply(&reply);
            }
            Action::Reset => self.end_silently(CloseReason::Reset),
            Action::HalfOpen => {
                self.flush(batch).await?;
                self.session.half_open();
            }
            _ => {
                self.with_hang_up_watch(server.handler.frame(batch, message))
                    .await
            }
        }
        Ok(())
    }

    /// Writes what the turn has answered so far, and tells whom it concerns: a fault may take its time.
    pub(super) async fn flush(&mut self, batch: &mut RequestBatch<H::Pending>) -> io::Result<()> {
        let server = Arc::clone(&self.server);
        self.with_hang_up_watch(server.handler.finish(batch)).await;
        server.handler.answered(std::mem::take(&mut batch.pending));
        let (out, read_at) = (std::mem::take(&mut batch.out), Some(batch.read_at));
        self.write_with_faults(out, batch.counted, read_at).await?;
        batch.counted = 0;
        Ok(())
    }

    /// As `write`, for frames that may meet faults; waits until the socket has taken all that is to leave.
    pub(super) async fn write_with_faults(
        &mut self,
        mut out: BytesMut,
        counted: usize,
        read_at: Option<Instant>,
    ) -> io::Result<()> {
        let answers = out.split_off(counted.min(out.len()));
        // The rest of frames that have met theirs.
        self.write_all(&out).await?;
        self.session.set_unwritten(0);
        let mut outgoing = Outgoing::default();
        if let Some(held) = self.take_released_reply() {
            outgoing.add(&held.frame, held.read_at);
        }
        self.queue_frames(&answers, read_at, &mut outgoing).await?;
        if self.is_silenced() {
            return Ok(());
        }
        // Behind them, so that a notify says where a page has left this reader that met a fault.
        let mut queued = BytesMut::new();
        self.session.take_outbound(self.server.framing, &mut queued);
        self.queue_frames(&queued, None, &mut outgoing).await?;
        if self.is_silenced() {
            return Ok(());
        }
        self.send(&mut outgoing).await
    }

    /// Lets whole frames leave behind those in `outgoing`, as far as faults let them. They answer requests that were read at
    /// `read_at`, if any.
    async fn queue_frames(
        &mut self,
        frames: &[u8],
        read_at: Option<Instant>,
        outgoing: &mut Outgoing,
    ) -> io::Result<()> {
        for (message, taken) in self.server.framing.frames(frames) {
            let mut held = self
                .backlog
                .as_mut()
                .and_then(|backlog| backlog.held_reply.take());
            let can = |action: &Action| match *action {
                // This frame is the one that overtakes.
                Action::Reorder => held.is_none(),
                Action::Slice(bytes) => bytes < taken,
                Action::Error(_) | Action::Gap | Action::Stale => {
                    self.changed(message, *action).is_some()
                }
                _ => true,
            };
            let hit = self
                .server
                .fault_point
                .check_reply(&self.session, message, can);
            self.queue_frame((message, read_at), hit, &mut held, outgoing)
                .await?;
            if self.is_silenced() {
                return Ok(());
            }
            if let Some(held) = held {
                outgoing.add(&held.frame, held.read_at);
            }
        }
        Ok(())
    }

    /// Lets a frame leave behind those in `outgoing`, or does with it what a fault says. `held` is the frame that waits for
    /// this one.
    async fn queue_frame(
        &mut self,
        (message, read_at): (&[u8], Option<Instant>),
        hit: Option<Hit>,
        held: &mut Option<Box<HeldFrame>>,
        outgoing: &mut Outgoing,
    ) -> io::Result<()> {
        let frame = self.framed(&Encoded(message));
        let Some(hit) = hit else {
            outgoing.add(&frame, read_at);
            return Ok(());
        };
        match hit.action {
            Action::Drop => self.page_lost(message),
            Action::Duplicate => {
                outgoing.add(&frame, read_at);
                outgoing.add(&frame, None);
            }
            Action::Reorder => {
                let held = HeldFrame::new(frame, read_at, hit.hold);
                self.backlog.get_or_insert_default().held_reply = Some(held);
            }
            Action::Error(_) | Action::Gap | Action::Stale => {
                let changed = self.changed(message, hit.action);
                if matches!(hit.action, Action::Error(_)) {
                    self.page_lost(message);
                }
                outgoing.add(&changed.unwrap_or(frame), read_at);
            }
            // What takes its time, or ends it: what came before it has left. A timer runs already, and is looked at
            // meanwhile: who moves the clock does not wait for what may rest.
            Action::Delay { .. } => {
                let session = Arc::clone(&self.session);
                let mut waited = pin!(wait_beside(&session, hit.hold, held));
                let (left, ended) = run_beside_wait(self.send(outgoing), waited.as_mut()).await;
                left?;
                if let Some((held, hold)) = self.finish_wait(ended, waited).await {
                    outgoing.add(&held.frame, held.read_at);
                    let mut waited = pin!(wait(&session, hold));
                    let (left, ended) = run_beside_wait(self.send(outgoing), waited.as_mut()).await;
                    left?;
                    self.finish_wait(ended, waited).await;
                }
                outgoing.add(&frame, read_at);
            }
            Action::Throttle(rate) => {
                let hold = hit.hold;
                self.throttle(&frame, read_at, (rate, hold), outgoing)
                    .await?;
            }
            _ => {
                self.send(outgoing).await?;
                self.apply_fault(&frame, read_at, hit.action, outgoing)
                    .await?;
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
        outgoing: &mut Outgoing,
    ) -> io::Result<()> {
        let session = Arc::clone(&self.session);
        hold.beside(self.send(outgoing)).await?;
        self.record_sent(frame, None);
        let mut left = frame;
        while !left.is_empty() {
            self.with_hang_up_watch(or_abandoned(&session, hold.wait()))
                .await;
            let is_over = hold.is_released() || session.is_abandoned();
            let size = if is_over {
                left.len()
            } else {
                Action::piece(rate)
            };
            let (piece, rest) = left.split_at(size.min(left.len()));
            left = rest;
            if left.is_empty() {
                self.count_answer(frame, read_at);
            }
            hold.beside(self.write_all(piece)).await?;
        }
        Ok(())
    }

    async fn apply_fault(
        &mut self,
        frame: &BytesMut,
        read_at: Option<Instant>,
        action: Action,
        outgoing: &mut Outgoing,
    ) -> io::Result<()> {
        match action {
            Action::Slice(bytes) => {
                self.record_sent(frame, read_at);
                for slice in frame.chunks(bytes) {
                    self.write_all(slice).await?;
                    // Else the network may put them together again.
                    tokio::task::yield_now().await;
                }
            }
            Action::Truncate => {
                self.write_all(frame.get(..frame.len() / 2).unwrap_or_default())
                    .await?;
                self.end_silently(CloseReason::Dropped);
            }
            Action::Reset => self.end_silently(CloseReason::Reset),
            Action::HalfOpen => self.session.half_open(),
            _ => outgoing.add(frame, read_at),
        }
        Ok(())
    }

    /// Writes whole frames that have met no fault, or have survived it.
    async fn send(&mut self, outgoing: &mut Outgoing) -> io::Result<()> {
        let Outgoing { frames, answers } = std::mem::take(outgoing);
        self.record_sent(&frames, None);
        for (frame, read_at) in answers {
            let frame = frames.get(frame).unwrap_or_default();
            self.count_answer(frame, Some(read_at));
        }
        self.write_all(&frames).await
    }

    /// An answer is about to be written, or the last piece of it.
    fn count_answer(&self, frame: &[u8], read_at: Option<Instant>) {
        if let Some(read_at) = read_at {
            let traffic = self.server.metrics.traffic();
            for (message, _) in self.server.framing.frames(frame) {
                traffic.answered(message, read_at.elapsed());
            }
        }
    }

    /// Writes, and waits until the socket has taken it or the session closes: then what is left is kept for its end. On
    /// one that is half-open it is lost.
    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() && self.session.is_served() {
            let (transport, session, manager) =
                (&mut self.transport, &self.session, &self.server.manager);
            // What rests writes nothing either.
            poll_fn(|cx| {
                if session.is_served() && manager.park_if_paused(session, cx) {
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
            session.timers.write_stalled(manager.clock().now());
            let written = tokio::select! {
                biased;
                () = poll_fn(|cx| session.poll_closed(cx)) => break,
                written = transport.write(left) => written?,
            };
            session.timers.write_progressed();
            left = left.get(written..).unwrap_or_default();
        }
        if !left.is_empty() {
            let backlog = self.backlog.get_or_insert_default();
            backlog.unwritten.extend_from_slice(left);
        }
        Ok(())
    }

    /// Forgets what comes and says nothing, until the peer hangs up, this server ends, or the session is cut.
    pub(super) async fn serve_half_open(&mut self) {
        self.backlog = None;
        let (session, shutdown) = (&self.session, self.server.manager.shutdown());
        tokio::select! {
            // However it ends.
            _ = self.transport.drain() => session.close(CloseReason::PeerClosed),
            () = shutdown.begun() => {}
            () = poll_fn(|cx| session.poll_ended(cx)) => {}
        }
    }

    /// Ends the session without a word.
    fn end_silently(&mut self, reason: CloseReason) {
        self.backlog.get_or_insert_default().is_silenced = true;
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
                let gone = self.server.fault_point.gone_address()?;
                Some(self.framed(&Reply::select_access(gone)))
            }
            _ => None,
        }
    }
}

/// Whole frames that are about to be written.
#[derive(Default)]
struct Outgoing {
    frames: BytesMut,
    /// Which of them answer requests, and when these were read.
    answers: Vec<(Range<usize>, Instant)>,
}

impl Outgoing {
    fn add(&mut self, frame: &[u8], read_at: Option<Instant>) {
        let start = self.frames.len();
        self.frames.extend_from_slice(frame);
        let answer = read_at.map(|read_at| (start..self.frames.len(), read_at));
        self.answers.extend(answer);
    }
}

/// Waits until something is held no more, at most until the session closes or its peer has hung up.
async fn wait(session: &Session, mut hold: Hold) {
    or_abandoned(session, hold.wait()).await;
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
        () = or_abandoned(session, hold.wait()) => return None,
    }
    Some((held.take()?, hold))
}

async fn or_abandoned<T>(session: &Session, what: impl Future<Output = T>) {
    tokio::select! {
        _ = what => {}
        () = session.abandoned() => {}
    }
}
