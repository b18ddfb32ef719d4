//! A connection of a replay: sends recorded requests and collects what the server sends.
//!
//! Serves the player in `replay`. Frames are read only while the player waits for something, and every wait has a
//! time limit.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use imd::codec::{Encoded, FrameCodec, encode};
use imd::proto::{Cmd, ResNotify, ResSendP2pMsg, ResSyncMsg};
use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;
use tokio_util::codec::FramedRead;

use super::exchanges::Exchanges;

/// A connection that stands for one recorded session. Frames are read while it waits for something.
pub struct Connection {
    writer: OwnedWriteHalf,
    frames: FramedRead<OwnedReadHalf, FrameCodec>,
    received: ReceivedFrames,
    /// Time limit for each write and for each expected frame.
    patience: Duration,
}

/// What the server has sent on a connection so far.
#[derive(Default)]
struct ReceivedFrames {
    exchanges: Exchanges,
    /// Set when the server has announced something new since the last sync.
    is_notified: bool,
    /// The newest version that the server has announced, or 0 if it announced none.
    newest: i64,
    /// Why the connection has ended, if it has.
    end: Option<String>,
}

/// A frame by which the server announces something new without a request.
pub enum Push {
    /// A notify with the newest version of the inbox, or 0 if it names none.
    Notify(i64),
    /// A message, which the original server may send directly.
    Message,
}

impl Push {
    /// Returns the announcement that a frame is, if it is one.
    pub fn of(frame: &Bytes) -> Option<Push> {
        match Cmd::of(frame)? {
            Cmd::Notify => {
                let notify = ResNotify::decode(frame.clone());
                Some(Push::Notify(notify.map_or(0, |notify| notify.total_id)))
            }
            Cmd::SendP2PMsg => {
                let message = ResSendP2pMsg::decode(frame.clone()).ok()?;
                (!message.msg.is_empty()).then_some(Push::Message)
            }
            _ => None,
        }
    }
}

impl Connection {
    /// Connects to a server.
    ///
    /// # Errors
    ///
    /// When connecting fails or takes longer than `patience`.
    pub async fn open(addr: &str, patience: Duration) -> io::Result<Connection> {
        let stream = timeout(patience, TcpStream::connect(addr)).await??;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        Ok(Connection {
            writer,
            frames: FramedRead::new(reader, FrameCodec),
            received: ReceivedFrames::default(),
            patience,
        })
    }

    /// Sends a message as the request of a line. `recorded` is the request in the record, which the reply is matched
    /// with. A failure ends the connection.
    pub async fn send(&mut self, line: usize, recorded: Bytes, message: &Bytes) {
        self.received.add_request(line, recorded);
        let mut frame = BytesMut::new();
        if let Err(error) = encode(&Encoded(message), &mut frame) {
            self.received.end = Some(error.to_string());
            return;
        }
        let Connection {
            writer,
            frames,
            received,
            patience,
        } = self;
        let writing = async {
            let mut writing = std::pin::pin!(writer.write_all(&frame));
            loop {
                tokio::select! {
                    written = &mut writing => return written,
                    // Reading goes on meanwhile, because a server that can't write may stop to read.
                    frame = frames.next(), if received.end.is_none() => received.take(frame),
                }
            }
        };
        let why = match timeout(*patience, writing).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the server reads no more".into(),
        };
        // Replies that were sent before the failure may still arrive, so an earlier reason is kept.
        self.received.end.get_or_insert(why);
    }

    /// Adds a recorded reply, and waits for the server to send its counterpart.
    pub async fn expect(&mut self, line: usize, frame: Bytes) {
        self.received.exchanges.recorded(line, frame);
        self.read_while(|received| received.exchanges.is_reply_missing())
            .await;
        self.received.exchanges.give_up();
    }

    /// Waits for an announcement like the recorded one, and returns whether it arrived.
    pub async fn expect_push(&mut self, push: Push) -> bool {
        self.read_while(|received| !received.is_announced(&push))
            .await;
        self.received.is_announced(&push)
    }

    /// Waits for the server to close the connection, and returns whether it did.
    pub async fn expect_end(&mut self) -> bool {
        self.read_while(|_| true).await;
        self.received.end.is_some()
    }

    /// Closes the sending side, and reads what the server still sends.
    pub async fn end(&mut self) {
        if self.writer.shutdown().await.is_ok() {
            self.read_while(|_| true).await;
        }
    }

    /// Returns the exchanges of the connection, to take the completed ones.
    pub fn exchanges(&mut self) -> &mut Exchanges {
        &mut self.received.exchanges
    }

    /// Returns why the connection has ended, if it has.
    pub fn end_reason(&self) -> Option<&str> {
        self.received.end.as_deref()
    }

    /// Reads frames while the condition holds, the connection is open, and the time limit is not over.
    async fn read_while(&mut self, condition: impl Fn(&ReceivedFrames) -> bool) {
        let Connection {
            frames, received, ..
        } = self;
        let reading = async {
            while condition(received) && received.end.is_none() {
                received.take(frames.next().await);
            }
        };
        // A timeout is not an error here: what is missing shows in the comparison.
        let _ = timeout(self.patience, reading).await;
    }
}

impl ReceivedFrames {
    /// Returns whether a recorded announcement needs no counterpart any more. Notifies carry the state of an inbox,
    /// so several of them may be merged into one.
    fn is_announced(&self, recorded: &Push) -> bool {
        let is_old = match recorded {
            Push::Notify(total) => *total > 0 && self.newest >= *total,
            Push::Message => false,
        };
        self.is_notified || is_old
    }

    /// Adds a request that is being sent. A sync answers the announcements before it, so they do not count after it.
    fn add_request(&mut self, line: usize, request: Bytes) {
        if Cmd::of(&request) == Some(Cmd::SyncMsg) {
            self.is_notified = false;
        }
        self.exchanges.requested(line, request);
    }

    /// Handles a frame, or the end of the connection.
    fn take<E: std::fmt::Display>(&mut self, frame: Option<Result<Bytes, E>>) {
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                self.end = Some(error.to_string());
                return;
            }
            None => {
                self.end = Some("the server has closed the connection".into());
                return;
            }
        };
        match Push::of(&frame) {
            Some(push) => {
                self.is_notified = true;
                if let Push::Notify(total) = push {
                    self.newest = self.newest.max(total);
                }
            }
            None => {
                if Cmd::of(&frame) == Some(Cmd::SyncMsg)
                    && let Ok(page) = ResSyncMsg::decode(frame.clone())
                {
                    self.newest = self.newest.max(page.total_id);
                }
                self.exchanges.received(frame);
                if self.exchanges.is_overfull() {
                    self.end = Some("too much is open".into());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imd::proto::ReqSyncMsg;

    fn notify(total_id: i64) -> Bytes {
        let notify = ResNotify {
            cmd: Cmd::Notify.number(),
            total_id,
            ..Default::default()
        };
        notify.encode_to_vec().into()
    }

    fn sync() -> Bytes {
        let request = ReqSyncMsg {
            cmd: Cmd::SyncMsg.number(),
            ..Default::default()
        };
        request.encode_to_vec().into()
    }

    fn page(total_id: i64) -> Bytes {
        let page = ResSyncMsg {
            cmd: Cmd::SyncMsg.number(),
            total_id,
            ..Default::default()
        };
        page.encode_to_vec().into()
    }

    fn receive(received: &mut ReceivedFrames, frame: Bytes) {
        received.take(Some(Ok::<_, io::Error>(frame)));
    }

    #[test]
    fn notifies_between_two_syncs_count_as_one() {
        let mut received = ReceivedFrames::default();
        assert!(!received.is_announced(&Push::Notify(1)));
        // A server may merge both notifies into one, or number versions differently.
        receive(&mut received, notify(0));
        assert!(received.is_announced(&Push::Notify(1)) && received.is_announced(&Push::Notify(2)));
        received.add_request(5, sync());
        assert!(
            !received.is_announced(&Push::Notify(3)),
            "the next one has to be told"
        );
    }

    #[test]
    fn a_version_that_was_announced_before_the_sync_needs_no_other_notify() {
        let mut received = ReceivedFrames::default();
        receive(&mut received, notify(2));
        received.add_request(5, sync());
        assert!(
            received.is_announced(&Push::Notify(2)) && !received.is_announced(&Push::Notify(3))
        );
        receive(&mut received, page(3));
        assert!(
            received.is_announced(&Push::Notify(3)) && !received.is_announced(&Push::Notify(4))
        );
        assert!(
            !received.is_announced(&Push::Notify(0)),
            "of the original, which says none"
        );
    }

    #[test]
    fn a_pushed_message_is_not_a_reply() {
        let message = ResSendP2pMsg {
            cmd: Cmd::SendP2PMsg.number(),
            msg: "hello".into(),
            ..Default::default()
        };
        let mut received = ReceivedFrames::default();
        receive(&mut received, message.encode_to_vec().into());
        assert!(
            received.is_announced(&Push::Message) && received.exchanges.unsolicited().is_empty()
        );
        receive(&mut received, page(0));
        assert_eq!(received.exchanges.unsolicited().len(), 1);
    }
}
