//! Requests and idle clients over TLS and over WebSockets, beside an echo of the library that carries them.
//!
//! Serves the rows `tls` and `ws`. The echoes use tokio-rustls and tokio-tungstenite as their documentation shows it, but
//! answer all messages of one read by one write. The clients of both sides are the same: a WebSocket client masks its frames
//! with zeros, as the protocol allows, so that its own work is small.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use clap::ValueEnum;
use futures_util::{FutureExt, SinkExt, StreamExt};
use imd::codec::Framing;
use imd::load::LatencyHistogram;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_tungstenite::accept_async_with_config;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::Fault;
use crate::load::{Crowd, Sample};
use crate::requests::{check, request};
use crate::server::Server;
use crate::wire;

/// The read buffer of an echo, in bytes: what tungstenite's documentation recommends for many connections.
const READ: usize = 4 * 1024;

/// How long memory may take to come to rest.
const REST: Duration = Duration::from_millis(500);

/// What carries the bytes of a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Carrier {
    #[default]
    Tcp,
    Tls,
    WebSocket,
}

impl Carrier {
    fn framing(self) -> Framing {
        match self {
            Carrier::WebSocket => Framing::WebSocket,
            Carrier::Tcp | Carrier::Tls => Framing::LengthPrefix,
        }
    }

    /// Returns a frame of the length prefix in the form in which a client sends it.
    fn of_client(self, frame: &[u8]) -> BytesMut {
        if self != Carrier::WebSocket {
            return frame.into();
        }
        let message = frame.get(2..).unwrap_or_default();
        let mut out = BytesMut::new();
        out.put_u8(0x82);
        match u8::try_from(message.len()) {
            Ok(len @ ..=125) => out.put_u8(0x80 | len),
            _ => {
                out.put_u8(0x80 | 126);
                out.put_u16(message.len() as u16);
            }
        }
        out.put_u32(0);
        out.put_slice(message);
        out
    }
}

/// A certificate for 127.0.0.1, which is made once in each run. Returns the folder of `cert.pem` and `key.pem`.
pub fn certificate() -> Result<&'static Path, Fault> {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    if let Some(folder) = FOLDER.get() {
        return Ok(folder.path());
    }
    let folder = tempfile::tempdir()?;
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    std::fs::write(folder.path().join("cert.pem"), made.cert.pem())?;
    std::fs::write(
        folder.path().join("key.pem"),
        made.signing_key.serialize_pem(),
    )?;
    Ok(FOLDER.get_or_init(|| folder).path())
}

/// Serves an echo until accepting fails.
pub async fn echo(
    listener: TcpListener,
    carrier: Carrier,
    certificate: Option<&Path>,
) -> Result<(), Fault> {
    let acceptor = certificate.map(acceptor).transpose()?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let acceptor = acceptor.clone();
        // An echo ends when its client closes or breaks the connection.
        tokio::spawn(async move {
            match acceptor {
                Some(acceptor) if carrier == Carrier::Tls => echo_tls(acceptor, stream).await,
                _ => echo_websocket(stream).await,
            }
        });
    }
}

fn acceptor(folder: &Path) -> Result<TlsAcceptor, Fault> {
    let certificate = CertificateDer::from_pem_file(folder.join("cert.pem"))?;
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem"))?;
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![certificate], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn echo_tls(acceptor: TlsAcceptor, stream: TcpStream) -> Result<(), Fault> {
    let mut stream = acceptor.accept(stream).await?;
    let mut bytes = BytesMut::new();
    loop {
        bytes.reserve(READ);
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(());
        }
        let frames = Framing::LengthPrefix.frames(&bytes);
        let whole = frames.map(|(_, taken)| taken).sum();
        stream.write_all(&bytes[..whole]).await?;
        bytes.advance(whole);
    }
}

async fn echo_websocket(stream: TcpStream) -> Result<(), Fault> {
    let config = WebSocketConfig::default().read_buffer_size(READ);
    let mut socket = accept_async_with_config(stream, Some(config)).await?;
    while let Some(message) = socket.next().await {
        socket.feed(message?).await?;
        while let Some(Some(message)) = socket.next().now_or_never() {
            socket.feed(message?).await?;
        }
        socket.flush().await?;
    }
    Ok(())
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A client's connection.
struct Client {
    stream: Box<dyn Stream>,
    carrier: Carrier,
    received: BytesMut,
}

impl Client {
    async fn connect(addr: SocketAddr, carrier: Carrier) -> Result<Client, Fault> {
        let mut stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match carrier {
            Carrier::Tcp => Box::new(stream),
            Carrier::Tls => {
                let name = ServerName::try_from("127.0.0.1")?;
                Box::new(connector()?.connect(name, stream).await?)
            }
            Carrier::WebSocket => {
                upgrade(&mut stream).await?;
                Box::new(stream)
            }
        };
        Ok(Client {
            stream,
            carrier,
            received: BytesMut::new(),
        })
    }

    /// Waits for frames, and calls `each` with their messages. Returns how many there were.
    async fn receive(&mut self, each: impl Fn(&[u8]) -> Result<(), Fault>) -> Result<usize, Fault> {
        loop {
            self.received.reserve(READ);
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err("the server has closed the connection".into());
            }
            let (mut count, mut whole) = (0, 0);
            for (message, taken) in self.carrier.framing().frames(&self.received) {
                each(message)?;
                (count, whole) = (count + 1, whole + taken);
            }
            self.received.advance(whole);
            if count > 0 {
                return Ok(count);
            }
        }
    }

    /// Keeps `outstanding` requests unanswered, and counts the answers. Ends only with a fault.
    async fn ask(&mut self, outstanding: usize, answered: &AtomicU64) -> Result<(), Fault> {
        let request = self.carrier.of_client(&request());
        let mut missing = outstanding;
        loop {
            self.stream.write_all(&request.repeat(missing)).await?;
            missing = self.receive(check).await?;
            answered.fetch_add(missing as u64, Ordering::Relaxed);
        }
    }
}

fn connector() -> Result<TlsConnector, Fault> {
    let mut roots = RootCertStore::empty();
    let certificate = certificate()?.join("cert.pem");
    roots.add(CertificateDer::from_pem_file(certificate)?)?;
    let config = ClientConfig::builder().with_root_certificates(roots);
    Ok(TlsConnector::from(Arc::new(config.with_no_client_auth())))
}

async fn upgrade(stream: &mut TcpStream) -> io::Result<()> {
    let request = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await?);
    }
    match answer.starts_with(b"HTTP/1.1 101 ") {
        true => Ok(()),
        false => Err(io::Error::other("the server takes no WebSocket")),
    }
}

/// Keeps `outstanding` requests of each connection unanswered. The figure is requests per second.
pub async fn closed_loop(
    server: &Server,
    connections: usize,
    outstanding: usize,
    secs: f64,
) -> Result<Sample, Fault> {
    let answered = Arc::new(AtomicU64::new(0));
    let mut crowd = Crowd::default();
    for _ in 0..connections {
        let mut client = Client::connect(server.gateway, server.setup.carrier).await?;
        let answered = Arc::clone(&answered);
        crowd.add_task(async move {
            match client.ask(outstanding, &answered).await {
                Ok(()) => "a client has ended".into(),
                Err(fault) => fault,
            }
        });
    }
    Sample::rate(server, &mut crowd, secs, || {
        answered.load(Ordering::Relaxed)
    })
    .await
}

/// Logs users in, and leaves them alone. The figure is the server's memory for each of them, in bytes.
pub async fn idle(server: &Server, connections: usize) -> Result<Sample, Fault> {
    let before = server.resident()?;
    let mut clients = Vec::new();
    for uid in 1..=connections as i64 {
        let addr = server.access[uid as usize % server.access.len()];
        let mut client = Client::connect(addr, server.setup.carrier).await?;
        let login = client.carrier.of_client(&wire::login(uid));
        client.stream.write_all(&login).await?;
        client.receive(|_| Ok(())).await?;
        clients.push(client);
    }
    tokio::time::sleep(REST).await;
    let taken = server.resident()?.saturating_sub(before);
    Ok(Sample {
        values: vec![taken as f64 / connections as f64],
        cpu: f64::NAN,
        busy: [f64::NAN; 2],
        latency: LatencyHistogram::default(),
    })
}
