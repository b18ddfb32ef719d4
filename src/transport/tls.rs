//! The operations of [`Transport`](super::Transport) on a TLS connection.
//!
//! Serves the variant for TLS. rustls stands between the session and the socket, and buffers in both directions. Two rules keep
//! that invisible:
//!
//! - **A byte counts as written when its ciphertext is with the socket.** rustls encrypts what it is given although the socket
//!   is full. Such bytes are encrypted once and reported later: the caller offers them again, as it does after every short
//!   write, and they are skipped. At least the last byte of a record is held back so until the record is flushed. So the
//!   session's count of unwritten bytes, its write deadline and its congestion see the socket, and rustls never holds more
//!   than one record.
//! - **Plaintext that was left in rustls makes the connection readable**, although the socket is empty.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::io::poll_read_buf;

/// The most plaintext that one record of TLS holds, in bytes.
const RECORD: usize = 16 * 1024;

/// A TLS connection whose handshake is done. Its methods do what the methods of [`Transport`](super::Transport) with these
/// names do.
#[derive(Debug)]
pub struct Tls {
    stream: Box<TlsStream<TcpStream>>,
    /// How many of the bytes that the caller offers next are encrypted already, in a record that is not flushed.
    encrypted: usize,
    /// Whether rustls may hold plaintext that was not read yet, or the end of the stream.
    may_hold_plaintext: bool,
}

/// Writes to a socket without waiting.
struct TryWriter<'a>(&'a TcpStream);

impl io::Write for TryWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, bytes: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Tls {
    pub(super) fn new(stream: Box<TlsStream<TcpStream>>) -> Tls {
        Tls {
            stream,
            encrypted: 0,
            // The last bytes of the handshake may have brought the first ones of the client.
            may_hold_plaintext: true,
        }
    }

    /// Returns the TCP connection, which carries ciphertext.
    pub(super) fn tcp(&self) -> &TcpStream {
        self.stream.get_ref().0
    }

    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.may_hold_plaintext {
            true => Poll::Ready(Ok(())),
            false => self.tcp().poll_read_ready(cx),
        }
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
        limit: usize,
    ) -> Poll<io::Result<usize>> {
        let mut read = 0;
        // Each pass takes the plaintext of one record. The last one, which finds none, has the socket wake the task.
        self.may_hold_plaintext = true;
        while read < limit {
            let mut room = (&mut *into).limit(limit - read);
            match poll_read_buf(Pin::new(&mut *self.stream), cx, &mut room) {
                Poll::Ready(Ok(0)) => break,
                Poll::Ready(Ok(more)) => read += more,
                // The end of the TCP stream without one of TLS. Frames have lengths, so that nothing can be cut off unnoticed.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                // What was read before is served first. rustls reports its errors again, and so does a broken socket.
                Poll::Ready(Err(_)) if read > 0 => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.may_hold_plaintext = false;
                    match read {
                        0 => return Poll::Pending,
                        _ => break,
                    }
                }
            }
        }
        Poll::Ready(Ok(read))
    }

    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_write_ready(cx)
    }

    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            if self.encrypted == 0 {
                let record = rest.get(..RECORD).unwrap_or(rest);
                self.encrypted = io::Write::write(&mut self.stream.get_mut().1.writer(), record)?;
            }
            let taken = self.flush_record()?;
            written += taken;
            if taken == 0 || self.encrypted > 0 {
                break;
            }
        }
        match written {
            0 if !bytes.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            written => Ok(written),
        }
    }

    /// Gives the socket as much ciphertext as it takes at once. Returns how many of the encrypted bytes count as written by
    /// that: all if nothing is left, otherwise about as many as were flushed, without the last one.
    ///
    /// # Errors
    ///
    /// When the connection has broken.
    fn flush_record(&mut self) -> io::Result<usize> {
        let (tcp, connection) = self.stream.get_mut();
        let mut flushed = 0;
        while connection.wants_write() {
            match connection.write_tls(&mut TryWriter(tcp)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(more) => flushed += more,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let taken = flushed.min(self.encrypted.saturating_sub(1));
                    self.encrypted -= taken;
                    return Ok(taken);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(std::mem::take(&mut self.encrypted))
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            match self.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // The attempt has told the runtime that the socket is full, so that this waits for the system.
                    ready!(self.poll_write_ready(cx))?;
                }
                written => return Poll::Ready(written),
            }
        }
    }

    /// Says the end of the TLS stream, and closes the writing side of the TCP connection behind it.
    pub(super) async fn close_writing(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use rcgen::{CertificateParams, KeyPair};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::time::timeout;
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore};
    use tokio_rustls::{TlsConnector, client};

    use super::*;
    use crate::tls::{Acceptor, Certificate, CurrentCertificate, provider};
    use crate::transport::Transport;

    type Client = client::TlsStream<TcpStream>;

    /// How long something is waited for that must not come.
    const MOMENT: Duration = Duration::from_millis(100);

    /// Returns an acceptor, and the connector of a client that trusts its certificate.
    fn acceptor_and_connector() -> (Acceptor, TlsConnector) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let chain = vec![certificate.der().clone()];
        let certificate = Certificate::new(chain, key, SystemTime::now()).unwrap();
        let current = Arc::new(CurrentCertificate::new(certificate));
        let acceptor = Acceptor::new(current, false).unwrap();
        (acceptor, TlsConnector::from(Arc::new(config)))
    }

    /// Returns both ends of a TLS connection whose sockets buffer little.
    async fn pair() -> (Tls, Client) {
        let (acceptor, connector) = acceptor_and_connector();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_send_buffer_size(8 * 1024).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener: TcpListener = socket.listen(1).unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(8 * 1024).unwrap();
        let client = async {
            let stream = socket
                .connect(listener.local_addr().unwrap())
                .await
                .unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            connector.connect(name, stream).await.unwrap()
        };
        let server = async {
            let (stream, _) = listener.accept().await.unwrap();
            acceptor.accept(stream).await.unwrap()
        };
        let (client, server) = tokio::join!(client, server);
        match Transport::from(server) {
            Transport::Tls(tls) => (tls, client),
            other => panic!("{other:?}"),
        }
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|n| (n * 7 / 5) as u8).collect()
    }

    fn is_full(written: &io::Result<usize>) -> bool {
        matches!(written, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Writes until the socket takes no more. Returns how much of `bytes` counts as written.
    async fn fill(tls: &mut Tls, bytes: &[u8]) -> usize {
        let mut written = 0;
        loop {
            match tls.try_write(&bytes[written..]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // The system may still be moving bytes to the peer's buffer.
                    let ready = poll_fn(|cx| tls.poll_write_ready(cx));
                    if timeout(MOMENT, ready).await.is_err() {
                        return written;
                    }
                }
                more => written += more.unwrap(),
            }
            assert!(written < bytes.len(), "the socket takes everything");
        }
    }

    async fn read(tls: &mut Tls, limit: usize) -> Vec<u8> {
        let mut into = BytesMut::with_capacity(limit);
        let read = poll_fn(|cx| tls.poll_read(cx, &mut into, limit))
            .await
            .unwrap();
        assert_eq!(read, into.len());
        into.to_vec()
    }

    async fn is_readable(tls: &Tls) -> bool {
        poll_fn(|cx| Poll::Ready(tls.poll_read_ready(cx).is_ready())).await
    }

    #[test]
    fn a_transport_is_as_large_as_a_socket() {
        assert!(size_of::<Transport>() <= size_of::<TcpStream>() + 8);
    }

    #[tokio::test]
    async fn a_byte_counts_as_written_when_its_ciphertext_is_with_the_socket() {
        let (mut tls, mut client) = pair().await;
        let bytes = bytes(8 << 20);
        let written = fill(&mut tls, &bytes).await;
        assert!(tls.encrypted > 0, "the rest of a record is in rustls");
        assert!(tls.encrypted <= RECORD, "{}", tls.encrypted);
        assert!(tls.stream.get_ref().1.wants_write());
        // The peer gets no byte by itself that does not count as written yet, except those of the record that is cut.
        let mut received = vec![0; bytes.len()];
        let mut read = 0;
        while let Ok(more) = timeout(MOMENT, client.read(&mut received[read..])).await {
            read += more.unwrap();
        }
        assert!(
            read <= written && written < read + RECORD,
            "{read} {written}"
        );
        // Everything arrives once, in order, whatever was held back.
        let rest = async {
            let mut written = written;
            while written < bytes.len() {
                written += poll_fn(|cx| tls.poll_write(cx, &bytes[written..]))
                    .await
                    .unwrap();
            }
            assert_eq!(tls.encrypted, 0);
            assert!(!tls.stream.get_ref().1.wants_write());
            tls.close_writing().await.unwrap();
        };
        let reading = async {
            while read < bytes.len() {
                read += client.read(&mut received[read..]).await.unwrap();
            }
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        };
        tokio::join!(rest, reading);
        assert!(received == bytes);
    }

    #[tokio::test]
    async fn the_last_byte_is_held_back_until_the_record_is_flushed() {
        let (mut tls, mut client) = pair().await;
        let bytes = bytes(8 << 20);
        let mut written = fill(&mut tls, &bytes).await;
        // Offered with the end right behind what is encrypted, all but the last byte may be reported.
        let end = written + tls.encrypted;
        while is_full(&tls.try_write(&bytes[written..end])) {
            let mut piece = [0; 1024];
            client.read_exact(&mut piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while tls.encrypted > 0 {
            assert!(
                tls.stream.get_ref().1.wants_write(),
                "held back for nothing"
            );
            let _ = client.read(&mut [0; 1024]).await.unwrap();
            match tls.try_write(&bytes[written..end]) {
                Ok(more) => written += more,
                refused => assert!(is_full(&refused), "{refused:?}"),
            }
        }
        assert!(!tls.stream.get_ref().1.wants_write());
    }

    #[tokio::test]
    async fn one_byte_is_not_written_twice() {
        let (mut tls, mut client) = pair().await;
        let filler = bytes(8 << 20);
        let written = fill(&mut tls, &filler).await;
        // The rest of the record, then one byte in a record of its own.
        let end = written + tls.encrypted;
        let mut tail = filler[written..end].to_vec();
        tail.push(b'!');
        let mut offered = &tail[..];
        let writing = async {
            while !offered.is_empty() {
                let more = poll_fn(|cx| tls.poll_write(cx, offered)).await.unwrap();
                offered = &offered[more..];
            }
            tls.close_writing().await.unwrap();
        };
        let mut received = Vec::new();
        let (_, read) = tokio::join!(writing, client.read_to_end(&mut received));
        read.unwrap();
        assert_eq!(received.len(), end + 1);
        assert_eq!(received.last(), Some(&b'!'));
    }

    #[tokio::test]
    async fn plaintext_that_is_left_makes_the_connection_readable() {
        let (mut tls, mut client) = pair().await;
        for record in [&b"one"[..], b"two", b"three"] {
            client.write_all(record).await.unwrap();
        }
        client.flush().await.unwrap();
        poll_fn(|cx| tls.poll_read_ready(cx)).await.unwrap();
        tokio::time::sleep(MOMENT).await;
        assert_eq!(read(&mut tls, 4).await, b"onet");
        assert!(is_readable(&tls).await);
        assert_eq!(read(&mut tls, 100).await, b"wothree");
        let mut into = BytesMut::with_capacity(100);
        let again = poll_fn(|cx| Poll::Ready(tls.poll_read(cx, &mut into, 100).is_pending()));
        assert!(again.await && !is_readable(&tls).await);
        client.write_all(b"four").await.unwrap();
        timeout(MOMENT * 50, poll_fn(|cx| tls.poll_read_ready(cx)))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(read(&mut tls, 100).await, b"four");
    }

    #[tokio::test]
    async fn a_record_that_is_not_whole_yet_is_no_input() {
        let (mut tls, client) = pair().await;
        // Two bytes of the header of a record.
        let (mut tcp, _) = client.into_inner();
        tcp.write_all(&[0x17, 3]).await.unwrap();
        let mut into = BytesMut::with_capacity(100);
        let waiting = timeout(MOMENT, poll_fn(|cx| tls.poll_read(cx, &mut into, 100)));
        assert!(waiting.await.is_err());
        assert!(!is_readable(&tls).await && into.is_empty());
    }

    #[tokio::test]
    async fn both_kinds_of_end_are_the_end_and_a_reset_is_an_error() {
        let (mut tls, mut client) = pair().await;
        client.write_all(b"last").await.unwrap();
        client.shutdown().await.unwrap();
        tokio::time::sleep(MOMENT).await;
        assert_eq!(read(&mut tls, 100).await, b"last");
        assert!(is_readable(&tls).await);
        assert_eq!(read(&mut tls, 100).await, b"");

        let (mut tls, client) = pair().await;
        let (tcp, _) = client.into_inner();
        drop(tcp);
        assert_eq!(read(&mut tls, 100).await, b"", "without a word of TLS");

        let (tls, mut client) = pair().await;
        let mut transport = Transport::Tls(tls);
        transport.reset_on_drop();
        drop(transport);
        let error = client.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn draining_discards_what_arrives_until_the_client_hangs_up() {
        let (tls, mut client) = pair().await;
        let mut transport = Transport::Tls(tls);
        transport.close_writing().await.unwrap();
        let client = async {
            client.write_all(&bytes(100_000)).await.unwrap();
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
            client.shutdown().await.unwrap();
        };
        let (drained, ()) = tokio::join!(transport.drain(), client);
        drained.unwrap();
        timeout(MOMENT * 50, transport.hung_up()).await.unwrap();
    }
}
