//! Benchmarks of the whole path of a message, from the socket of the sender to the page of the receiver.
//!
//! Server and clients share one thread. The clients have a connection of their own in this file, because it allocates
//! nothing once it is logged in: every allocation that is counted is one of the server.

use std::net::SocketAddr;

use bytes::{Buf, BytesMut};
use divan::Bencher;
use divan::counter::ItemsCount;
use imd::codec::{MAX_FRAME, Split, encode, split};
use imd::proto::{Base, Cmd, ReqLogin, ResNotify};
use imd::{Config, Imd};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;

use crate::command::{frame, p2p, sync};

/// The length of a message id. Each id is a number with leading zeros.
const DIGITS: usize = 10;

/// A client that allocates nothing once it is logged in.
struct Client {
    uid: i64,
    stream: TcpStream,
    read: BytesMut,
    write: BytesMut,
}

impl Client {
    async fn log_in(addr: SocketAddr, uid: i64, token: String) -> std::io::Result<Client> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let mut client = Client {
            uid,
            stream,
            read: BytesMut::with_capacity(1 << 18),
            write: BytesMut::with_capacity(1 << 16),
        };
        let login = ReqLogin {
            cmd: Cmd::Login.number(),
            uid,
            token,
            ..Default::default()
        };
        client.write.extend_from_slice(&frame(&login));
        client.send().await?;
        client.until(Cmd::Login, 1).await?;
        Ok(client)
    }

    /// Sends everything in the write buffer.
    async fn send(&mut self) -> std::io::Result<()> {
        self.stream.write_all(&self.write).await?;
        self.write.clear();
        Ok(())
    }

    /// Reads until `frames` frames of this command have arrived. Returns the totalID of the last notify.
    async fn until(&mut self, cmd: Cmd, mut frames: usize) -> std::io::Result<i64> {
        let mut total = 0;
        while frames > 0 {
            match split(&self.read, MAX_FRAME).map_err(std::io::Error::other)? {
                Split::Needs(_) => {
                    // An empty buffer is cleared before it grows. Otherwise it would copy bytes that were read before.
                    if self.read.is_empty() {
                        self.read.clear();
                        self.read.reserve(1 << 17);
                    }
                    self.stream.read_buf(&mut self.read).await?;
                }
                Split::Frame { message, taken } => {
                    if Base::decode(message)?.cmd == cmd.number() {
                        frames -= 1;
                    }
                    if cmd == Cmd::Notify {
                        total = ResNotify::decode(message)?.total_id;
                    }
                    self.read.advance(taken);
                }
            }
        }
        Ok(total)
    }
}

/// Sends messages in one write, and ends when the receiver has read them.
#[divan::bench(args = [1, 16])]
fn path_memory(bencher: Bencher, messages: usize) {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (imd, mut sender, mut receiver) = runtime.block_on(async {
        let mut config = Config::default();
        config.any_port();
        let imd = Imd::start(config).await.expect("a start");
        let addr = imd.access_servers()[0].addr();
        let sender = Client::log_in(addr, 1, imd.token(1)).await;
        let receiver = Client::log_in(addr, 2, imd.token(2)).await;
        (imd, sender.expect("a login"), receiver.expect("a login"))
    });
    let mut template = p2p();
    template.msg_id = "0".repeat(DIGITS);
    let template = frame(&template);
    let id_at = template.windows(DIGITS).position(|w| w == [b'0'; DIGITS]);
    let id_at = id_at.expect("an id");
    let (mut sent, mut read) = (0, 0);
    bencher.counter(ItemsCount::new(messages)).bench_local(|| {
        for _ in 0..messages {
            sent += 1;
            let at = sender.write.len() + id_at;
            sender.write.extend_from_slice(&template);
            let mut rest: i64 = sent;
            for digit in sender.write[at..at + DIGITS].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        runtime.block_on(async {
            sender.send().await?;
            sender.until(Cmd::SendP2PMsg, messages).await?;
            while receiver.until(Cmd::Notify, 1).await? < sent {}
            encode(&sync(receiver.uid, read), &mut receiver.write)
                .map_err(std::io::Error::other)?;
            receiver.send().await?;
            receiver.until(Cmd::SyncMsg, 1).await?;
            read = sent;
            Ok::<_, std::io::Error>(())
        })
    });
    runtime.block_on(imd.shutdown());
}
