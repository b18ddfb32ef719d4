use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use imd::codec::{FrameCodec, encode};
use imd::proto::{Cmd, Encoded, ResNotify, ResSendP2pMsg, ResSyncMsg};
use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;
use tokio_util::codec::FramedRead;

use super::exchanges::Exchanges;

/// One replayed connection. What comes is read while something is waited for.
pub struct Connection {
    writer: OwnedWriteHalf,
    frames: FramedRead<OwnedReadHalf, FrameCodec>,
    heard: Heard,
    patience: Duration,
}

/// What has come.
#[derive(Default)]
struct Heard {
    exchanges: Exchanges,
    /// Whether the server has told of something new since the last sync.
    is_notified: bool,
    /// The newest version that it has told of; 0 where it does not say.
    newest: i64,
    /// Why nothing comes any more.
    end: Option<String>,
}

/// What the server says without being asked, of what is new.
pub enum Push {
    /// A notify, with the newest version there is, or 0 where it does not say.
    Notify(i64),
    /// A message itself, as the original may send it.
    Message,
}

impl Push {
    /// What a frame tells, if it is of that kind.
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
    /// Connects.
    ///
    /// # Errors
    ///
    /// When that fails or takes too long.
    pub async fn open(addr: &str, patience: Duration) -> io::Result<Connection> {
        let stream = timeout(patience, TcpStream::connect(addr)).await??;
        stream.set_nodelay(true)?;
        let (reader, writer) = stream.into_split();
        Ok(Connection {
            writer,
            frames: FramedRead::new(reader, FrameCodec),
            heard: Heard::default(),
            patience,
        })
    }

    /// Sends a message. `recorded` is what stands in the record at that line.
    pub async fn send(&mut self, line: usize, recorded: Bytes, message: &Bytes) {
        self.heard.asks(line, recorded);
        let mut frame = BytesMut::new();
        if let Err(error) = encode(&Encoded(message), &mut frame) {
            self.heard.end = Some(error.to_string());
            return;
        }
        let Connection {
            writer,
            frames,
            heard,
            patience,
        } = self;
        let writing = async {
            let mut writing = std::pin::pin!(writer.write_all(&frame));
            loop {
                tokio::select! {
                    written = &mut writing => return written,
                    // A server that can't write may not read either.
                    frame = frames.next(), if heard.end.is_none() => heard.take(frame),
                }
            }
        };
        let why = match timeout(*patience, writing).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the server reads no more".into(),
        };
        // What it said before may still be there.
        self.heard.end.get_or_insert(why);
    }

    /// Waits for a reply that the record has here.
    pub async fn expect(&mut self, line: usize, frame: Bytes) {
        self.heard.exchanges.recorded(line, frame);
        self.read_while(|heard| heard.exchanges.lack()).await;
        self.heard.exchanges.give_up();
    }

    /// Waits for something new to be told of, as the record has it here; whether it was.
    pub async fn expect_push(&mut self, push: Push) -> bool {
        self.read_while(|heard| !heard.is_told(&push)).await;
        self.heard.is_told(&push)
    }

    /// Waits for the server to close it; whether it has.
    pub async fn expect_end(&mut self) -> bool {
        self.read_while(|_| true).await;
        self.heard.end.is_some()
    }

    /// Says that nothing more is sent, and reads what still comes.
    pub async fn end(&mut self) {
        if self.writer.shutdown().await.is_ok() {
            self.read_while(|_| true).await;
        }
    }

    /// The exchanges that are over.
    pub fn exchanges(&mut self) -> &mut Exchanges {
        &mut self.heard.exchanges
    }

    /// Why nothing comes any more.
    pub fn ended(&self) -> Option<&str> {
        self.heard.end.as_deref()
    }

    async fn read_while(&mut self, is_lacking: impl Fn(&Heard) -> bool) {
        let Connection { frames, heard, .. } = self;
        let reading = async {
            while is_lacking(heard) && heard.end.is_none() {
                heard.take(frames.next().await);
            }
        };
        // What is lacking then is told by what there is.
        let _ = timeout(self.patience, reading).await;
    }
}

impl Heard {
    /// Whether what the record has here needs no telling any more: notifies are levels, and merge.
    fn is_told(&self, recorded: &Push) -> bool {
        let is_old = match recorded {
            Push::Notify(total) => *total > 0 && self.newest >= *total,
            Push::Message => false,
        };
        self.is_notified || is_old
    }

    /// A request leaves. After a sync, what was told of before counts no more.
    fn asks(&mut self, line: usize, request: Bytes) {
        if Cmd::of(&request) == Some(Cmd::SyncMsg) {
            self.is_notified = false;
        }
        self.exchanges.asked(line, request);
    }

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
                self.exchanges.came(frame);
                if self.exchanges.are_too_many() {
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

    fn hear(heard: &mut Heard, frame: Bytes) {
        heard.take(Some(Ok::<_, io::Error>(frame)));
    }

    #[test]
    fn notifies_between_two_syncs_are_one() {
        let mut heard = Heard::default();
        assert!(!heard.is_told(&Push::Notify(1)));
        // Both in one, or of a stack that numbers otherwise.
        hear(&mut heard, notify(0));
        assert!(heard.is_told(&Push::Notify(1)) && heard.is_told(&Push::Notify(2)));
        heard.asks(5, sync());
        assert!(
            !heard.is_told(&Push::Notify(3)),
            "the next one has to be told"
        );
    }

    #[test]
    fn a_level_that_was_told_of_before_the_sync_is_told() {
        let mut heard = Heard::default();
        hear(&mut heard, notify(2));
        heard.asks(5, sync());
        assert!(heard.is_told(&Push::Notify(2)) && !heard.is_told(&Push::Notify(3)));
        hear(&mut heard, page(3));
        assert!(heard.is_told(&Push::Notify(3)) && !heard.is_told(&Push::Notify(4)));
        assert!(
            !heard.is_told(&Push::Notify(0)),
            "of the original, which says none"
        );
    }

    #[test]
    fn a_message_that_comes_by_itself_is_no_reply() {
        let message = ResSendP2pMsg {
            cmd: Cmd::SendP2PMsg.number(),
            msg: "hello".into(),
            ..Default::default()
        };
        let mut heard = Heard::default();
        hear(&mut heard, message.encode_to_vec().into());
        assert!(heard.is_told(&Push::Message) && heard.exchanges.unasked().is_empty());
        hear(&mut heard, page(0));
        assert_eq!(heard.exchanges.unasked().len(), 1);
    }
}
