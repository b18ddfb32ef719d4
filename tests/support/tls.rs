//! TLS on the client's side of a connection, and the certificate of the servers.
//!
//! Serves [`super::link`] and [`super::for_this_run`]. What is written before the handshake is done waits for it, so that a
//! client can write to a server that does not answer yet.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use rcgen::{CertificateParams, KeyPair};
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, version};

use super::transport::Transport;

/// The files of the certificate that the servers of these tests have.
pub struct Certificate {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Returns the certificate, which signs itself. It is made once, and used by later runs too.
pub fn certificate() -> Certificate {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let target = option_env!("CARGO_TARGET_TMPDIR").map(PathBuf::from);
        let target = target.unwrap_or_else(std::env::temp_dir);
        let folder = target.join("imd-test-certificate");
        if !folder.exists() {
            let own = tempfile::tempdir_in(&target).unwrap();
            make_certificate(own.path());
            // Another process may have been faster. Then its folder stays, and this one is removed.
            if std::fs::rename(own.path(), &folder).is_ok() {
                let _ = own.keep();
            }
        }
        folder
    });
    Certificate {
        cert: FOLDER.join("cert.pem"),
        key: FOLDER.join("key.pem"),
    }
}

fn make_certificate(folder: &Path) {
    let key = KeyPair::generate().unwrap();
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names).unwrap();
    let certificate = certificate.self_signed(&key).unwrap();
    std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

/// Returns the config of clients that trust the certificate, and nothing else.
///
/// They speak TLS 1.2, or 1.3 below a WebSocket. With 1.2 the last word of the handshake is the server's, and a WebSocket has
/// the answer to its upgrade: so the server has opened the session when the client is done, as the tests expect.
fn config() -> Arc<ClientConfig> {
    static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(certificate().cert).unwrap();
        roots.add(certificate).unwrap();
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let version = match Transport::of_this_run().is_websocket() {
            true => &version::TLS13,
            false => &version::TLS12,
        };
        let config = config.with_protocol_versions(&[version]).unwrap();
        Arc::new(config.with_root_certificates(roots).with_no_client_auth())
    });
    Arc::clone(&CONFIG)
}

/// The state of TLS on one connection. Its methods work on the socket of that connection.
#[derive(Debug)]
pub struct Tls(Mutex<ClientConnection>);

/// Reads from a socket and writes to it without waiting.
struct AtOnce<'a>(&'a TcpStream);

impl Read for AtOnce<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Tls {
    pub fn new() -> Tls {
        let server = ServerName::try_from("localhost").unwrap();
        let mut connection = ClientConnection::new(config(), server).unwrap();
        // What is written before the handshake is done must never be refused.
        connection.set_buffer_limit(None);
        Tls(Mutex::new(connection))
    }

    fn lock(&self) -> MutexGuard<'_, ClientConnection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn poll_handshake(&self, tcp: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut tls = self.lock();
        loop {
            ready!(flush(&mut tls, tcp, cx))?;
            if !tls.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if ready!(receive(&mut tls, tcp, cx))? == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    pub fn poll_read(
        &self,
        tcp: &TcpStream,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut tls = self.lock();
        loop {
            // Only the handshake makes a reader write, which the socket takes at once. The writing half may wait for the socket
            // in another task, so that the reading half must not.
            while tls.wants_write() && tls.write_tls(&mut AtOnce(tcp)).is_ok() {}
            match tls.reader().read(into.initialize_unfilled()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => {
                    into.advance(read?);
                    return Poll::Ready(Ok(()));
                }
            }
            ready!(receive(&mut tls, tcp, cx))?;
        }
    }

    pub fn poll_write(
        &self,
        tcp: &TcpStream,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut tls = self.lock();
        if !tls.is_handshaking() {
            ready!(flush(&mut tls, tcp, cx))?;
        }
        let written = tls.writer().write(bytes)?;
        // What the socket does not take at once is sent by the next call.
        let _ = flush(&mut tls, tcp, cx)?;
        Poll::Ready(Ok(written))
    }

    pub fn poll_flush(&self, tcp: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        flush(&mut self.lock(), tcp, cx)
    }

    /// Says the end of what this side writes.
    pub fn end(&self) {
        self.lock().send_close_notify();
    }
}

/// Gives the socket all ciphertext.
fn flush(
    tls: &mut ClientConnection,
    tcp: &TcpStream,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while tls.wants_write() {
        ready!(tcp.poll_write_ready(cx))?;
        match tls.write_tls(&mut AtOnce(tcp)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            written => drop(written?),
        }
    }
    Poll::Ready(Ok(()))
}

/// Waits for ciphertext, and takes it. Returns how many bytes it was: 0 at the end of the TCP connection.
fn receive(
    tls: &mut ClientConnection,
    tcp: &TcpStream,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(tcp.poll_read_ready(cx))?;
        match tls.read_tls(&mut AtOnce(tcp)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => {
                let read = read?;
                tls.process_new_packets().map_err(io::Error::other)?;
                return Poll::Ready(Ok(read));
            }
        }
    }
}
