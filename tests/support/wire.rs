//! A client of the wire contract that looks at frames: it can cut them, damage them, send many at once, and leave
//! answers unread.
//!
//! Serves every suite that tests the servers through a socket. Frames have their length before them here, by whatever
//! [transport](super::Transport) they go. Tests that need none of this use `imd::Client`.

use std::io::ErrorKind;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt};
use imd::Imd;
use imd::codec::{self, CodecError, FrameCodec};
use imd::proto::{
    Base, Cmd, Error, Payload, ReqAccessServer, ResAcceptP2pMsgAck, ResNotify,
    ResSelectAccessServerForClient, ResSendGroupMsg, ResSendP2pMsg, ResSyncMsg,
};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::codec::FramedRead;

use super::connection::{Incoming, Outgoing, split};
use super::transport::Transport;
use super::websocket::header_len;
use super::{ack, group_msg, login, p2p, ping, post, soon, sync};

/// A connection to a gateway or an access server.
///
/// Every wait of it fails the test after [`PATIENCE`](super::PATIENCE).
pub struct Wire {
    pub frames: FramedRead<Incoming, FrameCodec>,
    pub out: Outgoing,
}

/// Opening, and sending.
impl Wire {
    /// Connects to an address of [`super`] for this transport. Waits until the connection is open for frames, or has ended.
    pub async fn connect(addr: SocketAddr) -> Wire {
        Wire::over(soon(TcpStream::connect(addr)).await.unwrap()).await
    }

    /// Takes over a connection, such as one whose socket has options of its own.
    pub async fn over(stream: TcpStream) -> Wire {
        let mut wire = Wire::unopened(stream).await;
        soon(wire.frames.get_mut().opened()).await;
        wire
    }

    /// Connects to a server that need not answer, such as one that is paused.
    pub async fn knock(addr: SocketAddr) -> Wire {
        Wire::unopened(soon(TcpStream::connect(addr)).await.unwrap()).await
    }

    async fn unopened(stream: TcpStream) -> Wire {
        // Fails on some systems if the server has reset the connection already. The first read reports that.
        let _ = stream.set_nodelay(true);
        let (incoming, mut out) = split(stream);
        // This fails on a connection that has been reset too.
        let _ = soon(out.flush()).await;
        Wire {
            frames: FramedRead::new(incoming, FrameCodec),
            out,
        }
    }

    /// Sends bytes as they are.
    pub async fn raw(&mut self, bytes: &[u8]) {
        soon(self.write(bytes)).await.unwrap();
    }

    /// Sends bytes. Returns false if the server has closed the connection.
    pub async fn try_raw(&mut self, bytes: &[u8]) -> bool {
        soon(self.write(bytes)).await.is_ok()
    }

    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.out.write_all(bytes).await?;
        self.out.flush().await
    }

    /// Sends a message as a frame.
    pub async fn send(&mut self, message: &impl Payload) {
        self.raw(&framed(message)).await;
    }

    /// Sends several frames in one segment.
    pub async fn send_all<M: Payload>(&mut self, messages: &[M]) {
        let mut bytes = BytesMut::new();
        messages
            .iter()
            .for_each(|message| codec::encode(message, &mut bytes).unwrap());
        self.raw(&bytes).await;
    }

    /// Ends the writing side. Before it, a WebSocket is closed and TLS is ended, unless the server has closed the connection.
    pub async fn end(&mut self) {
        match soon(self.out.shutdown()).await {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            ended => ended.unwrap(),
        }
    }
}

/// Reading.
impl Wire {
    /// Waits for the next frame.
    pub async fn frame(&mut self) -> Bytes {
        soon(self.frames.next())
            .await
            .expect("the connection was closed")
            .unwrap()
    }

    /// Waits for the next frame. Returns `None` if the server has closed the connection.
    pub async fn try_frame(&mut self) -> Option<Bytes> {
        soon(self.frames.next()).await?.ok()
    }

    /// Waits for the next frame, which must be of this command.
    pub async fn recv<M: Message + Default>(&mut self, cmd: Cmd) -> M {
        let frame = self.frame().await;
        let got = Base::decode(frame.clone()).unwrap().cmd;
        assert_eq!(got, cmd.number(), "instead of {cmd} came {frame:02x?}");
        M::decode(frame).unwrap()
    }

    /// Waits for the next frame of this command, and passes over the notifies before it.
    pub async fn answer<M: Message + Default>(&mut self, cmd: Cmd) -> M {
        loop {
            let frame = self.frame().await;
            let got = Base::decode(frame.clone()).unwrap().cmd;
            if got == cmd.number() {
                return M::decode(frame).unwrap();
            }
            assert_eq!(
                got,
                Cmd::Notify.number(),
                "instead of {cmd} came {frame:02x?}"
            );
        }
    }

    /// Waits for the next frame, which must be `Error` with this command and code. Returns its text.
    pub async fn error(&mut self, cmd: Cmd, code: u32) -> String {
        let error: Error = self.recv(cmd).await;
        assert_eq!(error.err_code, code, "{error:?}");
        error.err_str
    }

    /// Waits for the next frame, which must be a notify. Returns its currentID and totalID.
    pub async fn notified(&mut self) -> (i64, i64) {
        let notify: ResNotify = self.recv(Cmd::Notify).await;
        assert_eq!((notify.err_code, notify.err_str.as_str()), (0, "ok"));
        (notify.current_id, notify.total_id)
    }

    /// Returns a frame that has arrived, without a wait.
    pub fn frame_at_once(&mut self) -> Option<Bytes> {
        let frame = self.frames.next().now_or_never()?;
        Some(frame.expect("the connection was closed").unwrap())
    }

    /// Returns whether nothing has arrived and the connection is open, without a wait.
    pub fn is_silent(&mut self) -> bool {
        self.frames.next().now_or_never().is_none()
    }

    /// Checks that nothing arrives and the connection stays open, although the stack had time for it: meanwhile the HTTP
    /// API answers a request.
    pub async fn hears_nothing(&mut self, imd: &Imd) {
        assert_eq!(post(imd.user_api_addr(), "/", "").await.0, 404);
        let frame = futures_util::poll!(self.frames.next());
        assert!(frame.is_pending(), "instead of nothing: {frame:?}");
    }

    /// Waits for the end of the connection, and returns the bytes before it, of whole frames and of half ones.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut rest = self.frames.read_buffer().to_vec();
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = soon(self.frames.get_mut().read(&mut buffer)).await {
            rest.extend_from_slice(&buffer[..n]);
        }
        rest
    }

    /// Waits until the server closes in an orderly way: by a FIN, not by a reset. Before it, TLS is ended and a WebSocket is
    /// closed.
    pub async fn finished(&mut self) {
        let end = soon(self.frames.next()).await;
        assert!(end.is_none(), "instead of a FIN: {end:?}");
        self.check_no_error();
        let has_close_frame = self.frames.get_ref().close_code().is_some();
        let is_websocket = Transport::of_this_run().is_websocket();
        assert_eq!(has_close_frame, is_websocket, "whether a close frame came");
    }

    /// Waits for a FIN, as [`finished`](Self::finished) does, of a server that says nothing before it: after some faults it
    /// neither ends TLS nor closes a WebSocket.
    pub async fn cut_off(&mut self) {
        match soon(self.frames.next()).await {
            None => {}
            // The end of the TCP connection without that of TLS.
            Some(Err(CodecError::Io(error))) if error.kind() == ErrorKind::UnexpectedEof => {}
            end => panic!("instead of a FIN: {end:?}"),
        }
        self.check_no_error();
        assert_eq!(self.frames.get_ref().close_code(), None);
    }

    /// Checks that no reset came behind a FIN. It would have destroyed what was not read yet.
    fn check_no_error(&self) {
        let error = self.out.as_ref().take_error().unwrap();
        assert!(error.is_none(), "after the FIN: {error:?}");
    }

    /// Waits until the server resets the connection. No frame may come before that.
    pub async fn reset(&mut self) {
        let end = soon(self.frames.next()).await;
        let Some(Err(CodecError::Io(error))) = end else {
            panic!("instead of a reset: {end:?}");
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

/// Requests, each with its reply, which must be the next frame.
impl Wire {
    pub async fn login(&mut self, imd: &Imd, uid: i64) {
        self.send(&login(imd, uid)).await;
        assert_eq!(self.error(Cmd::Login, 0).await, "ok");
    }

    pub async fn ping(&mut self) {
        self.send(&ping()).await;
        assert_eq!(self.error(Cmd::Ping, 0).await, "ok");
    }

    pub async fn p2p(&mut self, target: i64, id: &str, msg: &str) -> ResSendP2pMsg {
        self.send(&p2p(target, id, msg)).await;
        self.recv(Cmd::SendP2PMsg).await
    }

    pub async fn group(&mut self, group: i64, id: &str, msg: &str) -> ResSendGroupMsg {
        self.send(&group_msg(group, id, msg)).await;
        self.recv(Cmd::SendGroupMsg).await
    }

    pub async fn accept(&mut self, source: i64, id: &str) -> ResAcceptP2pMsgAck {
        self.send(&ack(source, id)).await;
        self.recv(Cmd::AcceptP2PMsgAck).await
    }

    pub async fn sync(&mut self, current: i64, limit: u32) -> ResSyncMsg {
        self.send(&sync(current, limit)).await;
        self.recv(Cmd::SyncMsg).await
    }

    /// Asks a gateway for the address of an access server.
    pub async fn ask(&mut self) -> ResSelectAccessServerForClient {
        self.send(&ReqAccessServer {
            cmd: 10001,
            ..Default::default()
        })
        .await;
        self.recv(Cmd::ReqAccessServer).await
    }
}

/// Encodes a message as a frame.
pub fn framed(message: &impl Payload) -> BytesMut {
    let mut bytes = BytesMut::new();
    codec::encode(message, &mut bytes).unwrap();
    bytes
}

/// Puts a length in front of bytes that need not be a message.
pub fn raw_frame(message: &[u8]) -> Vec<u8> {
    let mut frame = u16::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(message);
    frame
}

/// Returns how many bytes a message takes in the counts of this run's transport, which leave the mask out.
pub fn counted_bytes(message: &impl Payload) -> u64 {
    let frame = framed(message);
    let longer = match Transport::of_this_run().is_websocket() {
        true => header_len(frame.len() - 2) - 2,
        false => 0,
    };
    (frame.len() + longer) as u64
}
