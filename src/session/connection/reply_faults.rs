//! Faults that are injected into what a connection writes: replies, notifies and pushed messages.
//!
//! Serves `writing`, which leaves all frames to this module while a rule for replies or notifies is in force, and
//! `request_faults`, which has the replies so far written before a fault of a request takes effect. Here each frame is
//! checked by itself, and each write is waited for. Frames keep their order, unless a fault changes it.

use std::future::poll_fn;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::BytesMut;
use prost::Message;

use super::{Connection, Handler};
use crate::codec::Encoded;
use crate::id::Version;
use crate::lab::{Action, Hit, Hold, Site};
use crate::proto::{Cmd, Code, Payload, Reply, ResNotify};
use crate::session::held_frame::{Delay, HeldReply, WholeFrame, or_abandoned};
use crate::session::reply_buffer::ReplyBuffer;
use crate::session::{CloseReason, reply_buffer};

impl<H: Handler> Connection<H> {
    /// Writes the same frames as [`write`](Self::write), with the faults that are injected into them, and waits until the
    /// socket has taken all of them, or the session is closed or half-open.
    ///
    /// # Errors
    ///
    /// When the connection has broken.
    pub(super) async fn write_with_faults(&mut self, buffer: ReplyBuffer) -> io::Result<()> {
        let ReplyBuffer {
            bytes: mut earlier,
            already_counted,
            read_at,
        } = buffer;
        let replies = earlier.split_off(already_counted.min(earlier.len()));
        // The earlier bytes are left of a write before this one. They are not checked, since a part of a frame can't be
        // changed.
        self.write_all(&earlier).await?;
        self.session.set_unwritten(0);
        let mut checked = CheckedFrames::default();
        if let Some(held) = self.take_released_reply() {
            checked.add(&held.frame.0, held.read_at);
        }
        let site = self.context.fault_point.reply_site();
        self.queue_frames(&replies, site, read_at, &mut checked)
            .await?;
        if self.must_not_write() {
            return Ok(());
        }
        // Taken after the replies: if a fault has kept a page from the client, the notify must not count that page as read.
        let mut unrequested = BytesMut::new();
        let framing = self.context.framing;
        let pushed = self.session.take_unrequested(framing, &mut unrequested);
        self.context.metrics.pushed(pushed);
        self.queue_frames(&unrequested, Site::Notify, None, &mut checked)
            .await?;
        if self.must_not_write() {
            return Ok(());
        }
        self.send(&mut checked).await
    }

    /// Adds frames to those in `checked`, and applies the faults that are injected into them at `site`. The frames reply to
    /// requests that were read at `read_at`, if to any.
    async fn queue_frames(
        &mut self,
        frames: &[u8],
        site: Site,
        read_at: Option<Instant>,
        checked: &mut CheckedFrames,
    ) -> io::Result<()> {
        for (message, taken) in self.context.framing.frames(frames) {
            let backlog = self.backlog.as_mut();
            let mut held = backlog.and_then(|backlog| backlog.held_reply.take());
            let applies = |action: &Action| match *action {
                // A frame that overtakes another one is not overtaken itself.
                Action::Reorder => held.is_none(),
                Action::Slice(bytes) => bytes < taken,
                Action::Error(_) | Action::Gap | Action::Stale => {
                    self.changed(message, *action).is_some()
                }
                _ => true,
            };
            let fault_point = &self.context.fault_point;
            let hit = fault_point.find_output_hit(site, &self.session, message, applies);
            let frame = OutgoingFrame {
                message,
                bytes: self.framed(&Encoded(message)),
                read_at,
            };
            self.queue_frame(frame, hit, &mut held, checked).await?;
            if self.must_not_write() {
                return Ok(());
            }
            if let Some(held) = held {
                checked.add(&held.frame.0, held.read_at);
            }
        }
        Ok(())
    }

    /// Adds a frame to those in `checked`, or applies the fault that is injected into it. `held` is the frame that is held
    /// back until this one has passed.
    async fn queue_frame(
        &mut self,
        frame: OutgoingFrame<'_>,
        hit: Option<Hit>,
        held: &mut Option<Box<HeldReply>>,
        checked: &mut CheckedFrames,
    ) -> io::Result<()> {
        let OutgoingFrame {
            message, read_at, ..
        } = frame;
        let Some(hit) = hit else {
            checked.add(&frame.bytes, read_at);
            return Ok(());
        };
        match hit.action {
            // The frame is not added to the frames that are written.
            Action::Drop => self.note_if_page_lost(message),
            Action::Duplicate => {
                checked.add(&frame.bytes, read_at);
                checked.add(&frame.bytes, None);
            }
            Action::Reorder => {
                let held = HeldReply::new(WholeFrame(frame.bytes), read_at, hit.hold);
                self.backlog.get_or_insert_default().held_reply = Some(held);
            }
            Action::Error(_) | Action::Gap | Action::Stale => {
                let changed = self.changed(message, hit.action);
                if matches!(hit.action, Action::Error(_)) {
                    self.note_if_page_lost(message);
                }
                checked.add(&changed.unwrap_or(frame.bytes), read_at);
            }
            // The actions below take time or end the session, so the frames before this one are sent first.
            Action::Delay { .. } => {
                self.delay_frame(hit.hold, held, checked).await?;
                checked.add(&frame.bytes, read_at);
            }
            Action::Throttle(rate) => self.throttle(&frame, rate, hit.hold, checked).await?,
            _ => {
                self.send(checked).await?;
                self.write_or_end_by_fault(&frame, hit.action, checked)
                    .await?;
            }
        }
        Ok(())
    }

    /// Waits for the delay of a frame. Meanwhile the frames before it are sent, and the held frame too if its rule ends.
    async fn delay_frame(
        &mut self,
        hold: Hold,
        held: &mut Option<Box<HeldReply>>,
        checked: &mut CheckedFrames,
    ) -> io::Result<()> {
        let mut delay = Delay::new(Arc::clone(&self.session), hold, held.take());
        delay.poll_during(self.send(checked)).await?;
        let mut waited = self.with_hang_up_watch(delay.ended_or_released()).await;
        if let Some(left) = waited.left {
            delay.restart(left);
            if let Some(held) = waited.held.take() {
                checked.add(&held.frame.0, held.read_at);
            }
            delay.poll_during(self.send(checked)).await?;
            self.with_hang_up_watch(delay.ended_or_released()).await;
        }
        *held = waited.held;
        Ok(())
    }

    /// Takes the frame that was held back, if its rule has ended.
    pub(super) fn take_released_reply(&mut self) -> Option<Box<HeldReply>> {
        let held = &mut self.backlog.as_mut()?.held_reply;
        held.take_if(|held| held.is_released())
    }

    /// Notes that the client does not get a page, if the message is one.
    fn note_if_page_lost(&self, message: &[u8]) {
        let reply = Cmd::of(message).and_then(|cmd| Reply::decode(cmd, message));
        if let Some(Reply::Sync(page)) = reply {
            self.session
                .page_lost(Version(page.began_after()), Version(page.current_id));
        }
    }

    /// Returns the frame with the contents that an action gives it; none if the action changes nothing in it.
    fn changed(&self, message: &[u8], action: Action) -> Option<BytesMut> {
        let changed = match action {
            Action::Error(code) => self.refused_frame(message, code),
            Action::Gap => self.ahead(message),
            Action::Stale => self.stale(message),
            _ => None,
        };
        changed.filter(|changed| *changed != self.framed(&Encoded(message)))
    }

    /// Writes a frame at `rate` bytes per second. When the rule ends, the rest of the frame is written at once.
    async fn throttle(
        &mut self,
        frame: &OutgoingFrame<'_>,
        rate: u64,
        mut hold: Hold,
        checked: &mut CheckedFrames,
    ) -> io::Result<()> {
        let session = Arc::clone(&self.session);
        hold.await_outside_tick(self.send(checked)).await?;
        self.record_sent(&frame.bytes, None);
        let mut left = &*frame.bytes;
        while !left.is_empty() {
            let wait = or_abandoned(&session, hold.wait());
            self.with_hang_up_watch(wait).await;
            let is_over = hold.is_released() || session.is_abandoned();
            let size = if is_over {
                left.len()
            } else {
                Action::bytes_per_tick(rate)
            };
            let (piece, rest) = left.split_at(size.min(left.len()));
            left = rest;
            if left.is_empty() {
                self.count_reply(&frame.bytes, frame.read_at);
            }
            hold.await_outside_tick(self.write_all(piece)).await?;
        }
        Ok(())
    }

    /// Applies an action that writes the frame in its own way, or ends the session.
    async fn write_or_end_by_fault(
        &mut self,
        frame: &OutgoingFrame<'_>,
        action: Action,
        checked: &mut CheckedFrames,
    ) -> io::Result<()> {
        match action {
            Action::Slice(bytes) => {
                self.record_sent(&frame.bytes, frame.read_at);
                for slice in frame.bytes.chunks(bytes) {
                    self.write_all(slice).await?;
                    // Without this, the slices may leave in one packet.
                    tokio::task::yield_now().await;
                }
            }
            Action::Truncate => {
                let half = frame.bytes.get(..frame.bytes.len() / 2);
                let half = half.unwrap_or_default();
                self.write_all(half).await?;
                self.end_silently(CloseReason::Dropped);
            }
            Action::Reset => self.end_silently(CloseReason::Reset),
            Action::HalfOpen => self.session.half_open(),
            _ => checked.add(&frame.bytes, frame.read_at),
        }
        Ok(())
    }

    /// Records and writes the frames in `checked`.
    async fn send(&mut self, checked: &mut CheckedFrames) -> io::Result<()> {
        let CheckedFrames { frames, replies } = std::mem::take(checked);
        self.record_sent(&frames, None);
        for (frame, read_at) in replies {
            let frame = frames.get(frame).unwrap_or_default();
            self.count_reply(frame, Some(read_at));
        }
        self.write_all(&frames).await
    }

    /// Counts the time since the request was read. Called when the last piece of the reply is about to be written.
    fn count_reply(&self, frame: &[u8], read_at: Option<Instant>) {
        if let Some(read_at) = read_at {
            let traffic = self.context.metrics.traffic();
            for (message, _) in self.context.framing.frames(frame) {
                traffic.replied(message, read_at.elapsed());
            }
        }
    }

    /// Writes bytes, and waits until the socket has taken them or the session is closed or half-open. The rest is kept then:
    /// a closed session writes it at its end, and a half-open one never writes it.
    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() && self.session.is_served() {
            let (transport, session, manager) =
                (&mut self.transport, &self.session, &self.context.manager);
            // A paused server writes nothing either.
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
                () = poll_fn(|cx| session.poll_unserved(cx)) => break,
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

    /// Returns the frame of a message.
    fn framed(&self, message: &impl Payload) -> BytesMut {
        let mut frame = BytesMut::new();
        reply_buffer::append(self.context.framing, message, &mut frame);
        frame
    }

    /// Returns the frame that refuses what a reply would have brought, if the reply can be refused: see
    /// [`Reply::into_refusal`].
    fn refused_frame(&self, message: &[u8], code: Code) -> Option<BytesMut> {
        let reply = Reply::decode(Cmd::of(message)?, message)?;
        Some(self.framed(&reply.into_refusal(code)))
    }

    /// Returns the frame of a notify that promises one message more than there is; none for a pushed message.
    fn ahead(&self, message: &[u8]) -> Option<BytesMut> {
        Cmd::of(message).filter(|cmd| *cmd == Cmd::Notify)?;
        let notify = ResNotify::decode(message).ok()?;
        Some(self.framed(&ResNotify {
            total_id: notify.total_id.saturating_add(1),
            ..notify
        }))
    }

    /// Returns the frame of a gateway's reply with an address that has left the list, if one ever did.
    fn stale(&self, message: &[u8]) -> Option<BytesMut> {
        match Reply::decode(Cmd::ReqAccessServer, message)? {
            // Also in place of a refusal: while the address was on the list, there was an access server.
            Reply::SelectAccess(reply) if reply.cmd == Cmd::ReqAccessServer.number() => {
                let gone = self.context.fault_point.gone_address()?;
                Some(self.framed(&Reply::select_access(gone)))
            }
            _ => None,
        }
    }
}

/// A frame that is to be written.
struct OutgoingFrame<'a> {
    /// The message in the frame.
    message: &'a [u8],
    /// The whole frame, with its length prefix.
    bytes: BytesMut,
    /// When the request was read to which the frame replies; none if it replies to no request.
    read_at: Option<Instant>,
}

/// Frames that were checked for faults and are about to be written.
#[derive(Default)]
struct CheckedFrames {
    frames: BytesMut,
    /// The place of each frame in `frames` that replies to a request, and when that request was read.
    replies: Vec<(Range<usize>, Instant)>,
}

impl CheckedFrames {
    fn add(&mut self, frame: &[u8], read_at: Option<Instant>) {
        let start = self.frames.len();
        self.frames.extend_from_slice(frame);
        let reply = read_at.map(|read_at| (start..self.frames.len(), read_at));
        self.replies.extend(reply);
    }
}
