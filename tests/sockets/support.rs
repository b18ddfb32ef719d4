//! A client that sees frames, not meanings.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use imd::codec::{self, FrameCodec};
use imd::proto::{
    Base, Cmd, Error, OffsetMsg, Payload, ReqAcceptP2pMsgAck, ReqAccessServer, ReqLogin, ReqPing,
    ReqSendGroupMsg, ReqSendP2pMsg, ReqSyncMsg, ResAcceptP2pMsgAck, ResNotify,
    ResSelectAccessServerForClient, ResSendGroupMsg, ResSendP2pMsg, ResSyncMsg,
};
use imd::{Config, Imd};
use prost::Message;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::codec::FramedRead;

use crate::ports::reserved;

/// What should happen at once has not happened when this is over: the test fails instead of hanging.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("this should have happened by now")
}

pub async fn start(config: Config) -> Imd {
    Imd::start(config).await.unwrap()
}

/// An `imd` on a manual clock.
pub async fn start_manual() -> Imd {
    start(Config::ephemeral().manual_clock()).await
}

/// A config whose ports nobody else takes while nobody listens there.
pub fn quiet_ports() -> Config {
    let mut config = Config::ephemeral();
    config.gateway.listen = reserved();
    config.http.user_listen = reserved();
    config.http.group_listen = reserved();
    config.admin.listen = reserved();
    for server in &mut config.access.0 {
        server.listen = reserved();
    }
    config
}

/// The first access server.
pub fn access(imd: &Imd) -> SocketAddr {
    imd.access_servers()[0].addr()
}

/// A connection that is logged in; its inbox was empty.
pub async fn user(imd: &Imd, uid: i64) -> Wire {
    let mut wire = Wire::connect(access(imd)).await;
    wire.login(imd, uid).await;
    wire
}

pub struct Wire {
    pub frames: FramedRead<OwnedReadHalf, FrameCodec>,
    pub out: OwnedWriteHalf,
}

impl Wire {
    pub async fn connect(addr: SocketAddr) -> Wire {
        Wire::over(soon(TcpStream::connect(addr)).await.unwrap())
    }

    /// Over a connection that is there already.
    pub fn over(stream: TcpStream) -> Wire {
        stream.set_nodelay(true).unwrap();
        let (read, out) = stream.into_split();
        Wire {
            frames: FramedRead::new(read, FrameCodec),
            out,
        }
    }

    /// Sends bytes as they are.
    pub async fn raw(&mut self, bytes: &[u8]) {
        soon(self.out.write_all(bytes)).await.unwrap();
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

    /// The next frame.
    pub async fn frame(&mut self) -> Bytes {
        soon(self.frames.next())
            .await
            .expect("the connection was closed")
            .unwrap()
    }

    /// The next frame, which must be of this command.
    pub async fn recv<M: Message + Default>(&mut self, cmd: Cmd) -> M {
        let frame = self.frame().await;
        let got = Base::decode(frame.clone()).unwrap().cmd;
        assert_eq!(got, cmd.number(), "instead of {cmd} came {frame:02x?}");
        M::decode(frame).unwrap()
    }

    /// The next frame of this command; notifies before it are passed over.
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

    /// The next frame, which must be `Error` with this command and code; its text.
    pub async fn error(&mut self, cmd: Cmd, code: u32) -> String {
        let error: Error = self.recv(cmd).await;
        assert_eq!(error.err_code, code, "{error:?}");
        error.err_str
    }

    /// The next frame, which must be a notify: (currentID, totalID).
    pub async fn notified(&mut self) -> (i64, i64) {
        let notify: ResNotify = self.recv(Cmd::Notify).await;
        assert_eq!((notify.err_code, notify.err_str.as_str()), (0, "ok"));
        (notify.current_id, notify.total_id)
    }

    /// The server closes in an orderly way: a FIN, not a reset.
    pub async fn finished(&mut self) {
        let end = soon(self.frames.next()).await;
        assert!(end.is_none(), "instead of a FIN: {end:?}");
        // A reset behind the FIN would have destroyed what was not read yet.
        let error = self.out.as_ref().take_error().unwrap();
        assert!(error.is_none(), "after the FIN: {error:?}");
    }

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

    pub async fn ask(&mut self) -> ResSelectAccessServerForClient {
        self.send(&ReqAccessServer {
            cmd: 10001,
            ..Default::default()
        })
        .await;
        self.recv(Cmd::ReqAccessServer).await
    }

    /// Sends bytes; false when the server has closed.
    pub async fn try_raw(&mut self, bytes: &[u8]) -> bool {
        soon(self.out.write_all(bytes)).await.is_ok()
    }

    /// The next frame; none when the server has closed.
    pub async fn try_frame(&mut self) -> Option<Bytes> {
        soon(self.frames.next()).await?.ok()
    }

    /// Ends the writing side.
    pub async fn end(&mut self) {
        self.out.shutdown().await.unwrap();
    }
}

pub fn framed(message: &impl Payload) -> BytesMut {
    let mut bytes = BytesMut::new();
    codec::encode(message, &mut bytes).unwrap();
    bytes
}

pub fn login(imd: &Imd, uid: i64) -> ReqLogin {
    ReqLogin {
        cmd: 20001,
        uid,
        token: imd.token(uid),
        ..Default::default()
    }
}

pub fn ping() -> ReqPing {
    ReqPing {
        cmd: 20002,
        ..Default::default()
    }
}

pub fn p2p(target_uid: i64, id: &str, msg: &str) -> ReqSendP2pMsg {
    ReqSendP2pMsg {
        cmd: 20003,
        target_uid,
        msg_id: id.into(),
        msg: msg.into(),
        ..Default::default()
    }
}

pub fn ack(source_uid: i64, id: &str) -> ReqAcceptP2pMsgAck {
    ReqAcceptP2pMsgAck {
        cmd: 20004,
        source_uid,
        msg_id: id.into(),
        ..Default::default()
    }
}

pub fn group_msg(group_id: i64, id: &str, msg: &str) -> ReqSendGroupMsg {
    ReqSendGroupMsg {
        cmd: 20005,
        group_id,
        msg_id: id.into(),
        msg: msg.into(),
        ..Default::default()
    }
}

pub fn sync(current_id: i64, limit: u32) -> ReqSyncMsg {
    ReqSyncMsg {
        cmd: 20006,
        current_id,
        limit,
        ..Default::default()
    }
}

/// The texts of a page.
pub fn texts(msgs: &[OffsetMsg]) -> Vec<&str> {
    msgs.iter().map(|entry| entry.msg.as_str()).collect()
}

/// The versions of a page.
pub fn versions(page: &ResSyncMsg) -> Vec<i64> {
    page.msgs.iter().map(|entry| entry.increment_id).collect()
}

/// A form-encoded POST: the HTTP status and the body.
pub async fn post(addr: SocketAddr, path: &str, form: &str) -> (u16, serde_json::Value) {
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    http(addr, request.as_bytes()).await
}

/// Sends a whole request and reads the whole answer.
pub async fn http(addr: SocketAddr, request: &[u8]) -> (u16, serde_json::Value) {
    use tokio::io::AsyncReadExt;
    let mut stream = soon(TcpStream::connect(addr)).await.unwrap();
    // The server may answer, and close, before it has taken all of a body that is too long.
    let _ = soon(stream.write_all(request)).await;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = soon(stream.read(&mut chunk)).await {
        answer.extend_from_slice(&chunk[..n]);
    }
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
    assert!(
        head.contains("content-type: application/json;charset=utf-8"),
        "{head}"
    );
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap())
}

/// A group with these members; the first one has created it.
pub async fn group_of(imd: &Imd, members: &[i64]) -> i64 {
    let api = imd.group_api_addr();
    let (_, created) = post(
        api,
        "/x/group/create",
        &format!("uid={}&name=team", members[0]),
    )
    .await;
    let gid = created["data"]["gid"].as_i64().unwrap();
    for uid in &members[1..] {
        let (_, joined) = post(api, "/x/group/join", &format!("uid={uid}&gid={gid}")).await;
        assert_eq!(joined["code"], 0);
    }
    gid
}
