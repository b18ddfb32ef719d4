//! What a connection does while the lab watches it: frames are recorded, and faults met.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use bytes::BytesMut;
use prost::Message;
use tokio::io::AsyncWriteExt;

use super::{Connection, Handler, drain, take_filled};
use crate::clock::{Ticks, beside};
use crate::codec;
use crate::command::Command;
use crate::lab::{Action, Direction, Hit, What};
use crate::proto::{Cmd, Code, Payload, Reply, ResNotify};
use crate::session::{CloseReason, Session, Turn, outbound};

impl<H: Handler> Connection<H> {
    /// Does what a fault says to a connection that was just accepted.
    pub(super) async fn accepted(&mut self) {
        let Some(hit) = self.server.tap.meet_accept(&self.session) else {
            return;
        };
        match hit.action {
            Action::Delay { .. } => wait(&self.session, hit.timer).await,
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
        let held = take_filled(self.rest.as_mut().map(|rest| &mut rest.held_request));
        let hit = server.tap.meet_request(&self.session, message);
        let (action, timer) = hit.map_or((None, None), |hit| (Some(hit.action), hit.timer));
        match action {
            Some(Action::Delay { .. }) => {
                let session = Arc::clone(&self.session);
                let (flushed, ()) = tokio::join!(self.flush(turn), wait(&session, timer));
                flushed?;
                server.handler.frame(turn, message).await;
            }
            Some(Action::Drop) => {}
            Some(Action::Duplicate) => {
                server.handler.frame(turn, message).await;
                server.handler.frame(turn, message).await;
            }
            Some(Action::Reorder) => {
                self.rest.get_or_insert_default().held_request = message.into();
            }
            Some(Action::Error(code)) => {
                server.handler.finish(turn).await;
                let reply = match Command::decode(message, server.tap.place()) {
                    Ok((command, _)) => server.handler.refuse(command.reply(), code),
                    Err(bad) => bad.reply(),
                };
                turn.reply(&reply);
            }
            Some(Action::Reset) => self.cut(CloseReason::Reset),
            Some(Action::HalfOpen) => {
                self.flush(turn).await?;
                self.session.half_open();
            }
            _ => server.handler.frame(turn, message).await,
        }
        if let Some(held) = held {
            server.handler.frame(turn, &held).await;
        }
        Ok(())
    }

    /// Writes what the turn has answered so far, and tells whom it concerns: a fault may take its time.
    async fn flush(&mut self, turn: &mut Turn<H::Open>) -> io::Result<()> {
        let server = Arc::clone(&self.server);
        server.handler.finish(turn).await;
        server.handler.answered(std::mem::take(&mut turn.open));
        self.write_watched(std::mem::take(&mut turn.out), turn.counted)
            .await?;
        turn.counted = 0;
        Ok(())
    }

    /// As `write`, for frames that may meet faults; waits until the socket has taken all that is to leave.
    pub(super) async fn write_watched(
        &mut self,
        mut out: BytesMut,
        counted: usize,
    ) -> io::Result<()> {
        self.session.take_outbound(&mut out);
        let fresh = out.split_off(counted.min(out.len()));
        // The rest of frames that have met theirs.
        self.push(&out).await?;
        let mut leaving = BytesMut::new();
        for (message, _) in codec::frames(&fresh) {
            let held = take_filled(self.rest.as_mut().map(|rest| &mut rest.held_reply));
            let hit = self.server.tap.meet_reply(&self.session, message);
            self.pass(message, hit, &mut leaving).await?;
            if self.is_mute() {
                return Ok(());
            }
            if let Some(held) = held {
                leaving.extend_from_slice(&held);
            }
        }
        self.leave(&mut leaving).await
    }

    /// Lets a frame leave behind those in `leaving`, or does with it what a fault says.
    async fn pass(
        &mut self,
        message: &[u8],
        hit: Option<Hit>,
        leaving: &mut BytesMut,
    ) -> io::Result<()> {
        let frame = framed(&Encoded(message));
        let Some(hit) = hit else {
            leaving.extend_from_slice(&frame);
            return Ok(());
        };
        match hit.action {
            Action::Drop => {}
            Action::Duplicate => {
                leaving.extend_from_slice(&frame);
                leaving.extend_from_slice(&frame);
            }
            Action::Reorder => self.rest.get_or_insert_default().held_reply = frame,
            // What can't be changed so goes as it is.
            Action::Error(code) => {
                leaving.extend_from_slice(&refused(message, code).unwrap_or(frame));
            }
            Action::Gap => leaving.extend_from_slice(&ahead(message).unwrap_or(frame)),
            Action::Stale => leaving.extend_from_slice(&self.stale(message).unwrap_or(frame)),
            // What takes its time, or ends it: what came before it has left. A timer runs already, and is looked at
            // meanwhile: who moves the clock does not wait for what may rest.
            Action::Delay { .. } => {
                let session = Arc::clone(&self.session);
                let (left, ()) = tokio::join!(self.leave(leaving), wait(&session, hit.timer));
                left?;
                leaving.extend_from_slice(&frame);
            }
            Action::Throttle(rate) => self.throttle(&frame, rate, hit.timer, leaving).await?,
            _ => {
                self.leave(leaving).await?;
                self.suffer(&frame, hit.action, leaving).await?;
            }
        }
        Ok(())
    }

    /// Lets a frame leave at that rate.
    async fn throttle(
        &mut self,
        frame: &[u8],
        rate: u64,
        timer: Option<Box<dyn Ticks>>,
        leaving: &mut BytesMut,
    ) -> io::Result<()> {
        let session = Arc::clone(&self.session);
        // Each one that takes time has a timer.
        let Some(mut timer) = timer else {
            return self.leave(leaving).await;
        };
        beside(timer.as_mut(), self.leave(leaving)).await?;
        self.went(frame);
        for piece in frame.chunks(Action::piece(rate)) {
            or_over(&session, timer.tick()).await;
            beside(timer.as_mut(), self.push(piece)).await?;
        }
        Ok(())
    }

    async fn suffer(
        &mut self,
        frame: &BytesMut,
        action: Action,
        leaving: &mut BytesMut,
    ) -> io::Result<()> {
        match action {
            Action::Slice(bytes) => {
                self.went(frame);
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
            _ => leaving.extend_from_slice(frame),
        }
        Ok(())
    }

    /// Writes whole frames that have met no fault, or have survived it.
    async fn leave(&mut self, leaving: &mut BytesMut) -> io::Result<()> {
        let frames = std::mem::take(leaving);
        self.went(&frames);
        self.push(&frames).await
    }

    /// Writes, and waits until the socket has taken it or the session closes: then what is left is kept for its end. On
    /// one that is half-open it is lost.
    async fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() && self.session.is_served() {
            let (stream, session, manager) =
                (&mut self.stream, &self.session, &self.server.manager);
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
                written = stream.write(left) => written?,
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
            _ = drain(&self.stream) => session.close(CloseReason::PeerClosed),
            () = shutdown.begun() => {}
            () = poll_fn(|cx| session.poll_cut(cx)) => {}
        }
    }

    /// Ends the session without a word.
    fn cut(&mut self, reason: CloseReason) {
        self.rest.get_or_insert_default().is_mute = true;
        self.session.close(reason);
    }

    /// The answer of the gateway with an address that is no longer good, if it ever listed one.
    fn stale(&self, message: &[u8]) -> Option<BytesMut> {
        match Reply::decode(Cmd::ReqAccessServer, message)? {
            Reply::SelectAccess(mut reply) => {
                reply.addr = self.server.tap.gone_address()?;
                Some(framed(&reply))
            }
            _ => None,
        }
    }
}

/// Waits for a timer, at most until the session closes.
async fn wait(session: &Session, timer: Option<Box<dyn Ticks>>) {
    if let Some(mut timer) = timer {
        or_over(session, timer.tick()).await;
    }
}

async fn or_over(session: &Session, what: impl Future<Output = ()>) {
    tokio::select! {
        () = what => {}
        () = poll_fn(|cx| session.poll_over(cx)) => {}
    }
}

/// A message that is encoded already.
struct Encoded<'a>(&'a [u8]);

impl Payload for Encoded<'_> {
    fn encode_payload(&self, dst: &mut BytesMut) {
        dst.extend_from_slice(self.0);
    }
}

fn framed(message: &impl Payload) -> BytesMut {
    let mut frame = BytesMut::new();
    outbound::append(message, &mut frame);
    frame
}

/// The same answer with another code, if it can have one.
fn refused(message: &[u8], code: Code) -> Option<BytesMut> {
    let reply = Reply::decode(Cmd::of(message)?, message)?;
    Some(framed(&reply.refused(code)))
}

/// The same notify of one message more than there is.
fn ahead(message: &[u8]) -> Option<BytesMut> {
    let notify = ResNotify::decode(message).ok()?;
    Some(framed(&ResNotify {
        total_id: notify.total_id + 1,
        ..notify
    }))
}
