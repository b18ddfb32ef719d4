//! The handshake of an accepted connection.
//!
//! Serves the listeners, which call [`Acceptor::accept`] in the task of the connection, never in the accept loop. A connection
//! costs no memory for TLS before its first byte has arrived.

use std::io;
#[cfg(not(feature = "tls"))]
use std::time::SystemTime;

use tokio::net::TcpStream;

#[cfg(not(feature = "tls"))]
use super::ServerStream;
#[cfg(feature = "tls")]
pub use with_tls::Acceptor;

/// The answer to a request of HTTP on a port that speaks TLS only.
pub const NEEDS_HTTPS: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
Content-Type: text/plain\r\nContent-Length: 54\r\nConnection: close\r\n\r\n\
this port speaks TLS: write https:// (or wss://) here\n";

/// Why the handshake of a connection failed. It becomes a label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HandshakeFailure {
    /// The client sent something else than TLS, and only TLS is served.
    Plain,
    /// The client refused the certificate: it does not trust the issuer, or asked for a name that the certificate lacks.
    Untrusted,
    /// The client hung up before the handshake was done.
    Closed,
    /// Client and server share no version or cipher, or the client broke the protocol.
    Protocol,
}

impl HandshakeFailure {
    /// Returns the label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            HandshakeFailure::Plain => "plain",
            HandshakeFailure::Untrusted => "untrusted",
            HandshakeFailure::Closed => "hung_up",
            HandshakeFailure::Protocol => "bad_tls",
        }
    }
}

/// The error of a handshake that failed.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct HandshakeError {
    /// What kind of failure it is.
    pub failure: HandshakeFailure,
    /// What happened, in words.
    pub error: io::Error,
    /// The connection, if something may be on its way to the client: an alert of TLS has been written, or the caller may
    /// write an answer of its own to a client [without TLS](HandshakeFailure::Plain). A close over unread input would
    /// destroy it, so the caller discards the input first.
    pub stream: Option<TcpStream>,
}

/// Takes accepted connections. Without the cargo feature `tls`, all of them are plain.
#[cfg(not(feature = "tls"))]
#[derive(Debug, Clone, Default)]
pub struct Acceptor(());

#[cfg(not(feature = "tls"))]
impl Acceptor {
    /// Returns whether a connection has to wait for [`accept`](Self::accept): it does not in this build.
    pub fn is_tls(&self) -> bool {
        false
    }

    /// Returns whether clients without TLS are refused: they are not in this build.
    pub fn requires_tls(&self) -> bool {
        false
    }

    /// Returns until when the certificate is valid: there is none in this build.
    pub fn certificate_end(&self) -> Option<SystemTime> {
        None
    }

    /// Returns the host by which clients on this machine should connect to a server on `host`: the same one.
    pub fn name_for(&self, host: &str) -> String {
        host.to_owned()
    }

    /// Returns the connection as it is.
    ///
    /// # Errors
    ///
    /// None in this build.
    pub async fn accept(&self, stream: TcpStream) -> Result<ServerStream, HandshakeError> {
        Ok(ServerStream::Plain(stream))
    }
}

#[cfg(feature = "tls")]
mod with_tls {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, SystemTime};

    use tokio::net::TcpStream;
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::server::{NoServerSessionStorage, ServerConfig};
    use tokio_rustls::rustls::{self, AlertDescription};

    use super::{HandshakeError, HandshakeFailure};
    use crate::clock::running;
    use crate::tls::{CurrentCertificate, ServerStream, provider};

    /// The first byte of every TLS connection: the content type of a handshake record.
    const HANDSHAKE_RECORD: u8 = 0x16;

    /// How long a client may send nothing on a port with and without TLS, until it is taken for one without. A client
    /// with TLS sends its first byte at once; one without may wait for minutes for a person to type. Real time.
    const SILENCE: Duration = Duration::from_secs(3);

    /// Takes accepted connections: makes the handshake if TLS is served, and leaves them plain otherwise. Clones share
    /// everything.
    #[derive(Debug, Clone, Default)]
    pub struct Acceptor {
        /// None if TLS is not served.
        server: Option<Arc<Server>>,
    }

    struct Server {
        acceptor: TlsAcceptor,
        certificate: Arc<CurrentCertificate>,
        /// Whether a client has refused the certificate, which is logged once.
        was_refused: AtomicBool,
        /// Whether clients without TLS are served too.
        also_plain: bool,
    }

    impl std::fmt::Debug for Server {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("Server").finish_non_exhaustive()
        }
    }

    impl Acceptor {
        /// Creates an acceptor that makes the handshakes with a certificate, which may be replaced at any time. With
        /// `also_plain`, clients without TLS are served too.
        ///
        /// # Errors
        ///
        /// An error of the cryptography that TLS is built on, which does not happen.
        pub fn new(
            certificate: Arc<CurrentCertificate>,
            also_plain: bool,
        ) -> Result<Acceptor, rustls::Error> {
            let mut config = ServerConfig::builder_with_provider(provider())
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_cert_resolver(Arc::clone(&certificate) as _);
            // Tickets to resume a session would wait unread at a client that only writes, and its close would then be a reset
            // that destroys what it has written last. A handshake of another connection costs a millisecond.
            config.send_tls13_tickets = 0;
            config.session_storage = Arc::new(NoServerSessionStorage {});
            let server = Server {
                acceptor: TlsAcceptor::from(Arc::new(config)),
                certificate,
                was_refused: AtomicBool::new(false),
                also_plain,
            };
            Ok(Acceptor {
                server: Some(Arc::new(server)),
            })
        }

        /// Returns whether a connection has to wait for [`accept`](Self::accept) before it is served.
        pub fn is_tls(&self) -> bool {
            self.server.is_some()
        }

        /// Returns whether clients without TLS are refused.
        pub fn requires_tls(&self) -> bool {
            self.server
                .as_ref()
                .is_some_and(|server| !server.also_plain)
        }

        /// Returns until when the certificate is valid. None if TLS is not served.
        pub fn certificate_end(&self) -> Option<SystemTime> {
            Some(self.server.as_ref()?.certificate.not_after())
        }

        /// Returns the host by which clients on this machine should connect to a server on `host`, so that the certificate is
        /// valid for it if possible.
        pub fn name_for(&self, host: &str) -> String {
            match &self.server {
                Some(server) => server.certificate.name_for(host),
                None => host.to_owned(),
            }
        }

        /// Makes the handshake of an accepted connection, or finds out that the client speaks no TLS.
        ///
        /// There is no deadline: the caller sets one.
        ///
        /// # Errors
        ///
        /// [`HandshakeError`] when the client does not speak TLS and has to, or the handshake fails.
        pub async fn accept(&self, stream: TcpStream) -> Result<ServerStream, HandshakeError> {
            let Some(server) = &self.server else {
                return Ok(ServerStream::Plain(stream));
            };
            let is_tls = match server.also_plain {
                false => Ok(begins_with_tls(&stream).await),
                // Silence is no failure here: the client is served as one without TLS.
                true => running::timeout(SILENCE, begins_with_tls(&stream)).await,
            };
            match is_tls.unwrap_or(Ok(false)) {
                Ok(true) => server.shake_hands(stream).await,
                Ok(false) if server.also_plain => Ok(ServerStream::Plain(stream)),
                Ok(false) => Err(HandshakeError {
                    failure: HandshakeFailure::Plain,
                    error: io::Error::other("the client speaks no TLS"),
                    stream: Some(stream),
                }),
                Err(error) => Err(HandshakeError {
                    failure: HandshakeFailure::Closed,
                    error,
                    stream: None,
                }),
            }
        }
    }

    impl Server {
        async fn shake_hands(&self, stream: TcpStream) -> Result<ServerStream, HandshakeError> {
            // Boxed, so that a connection without TLS has no room for it in its task.
            let accepting = Box::pin(self.acceptor.accept(stream).into_fallible());
            match accepting.await {
                Ok(stream) => Ok(ServerStream::Tls(Box::new(stream))),
                Err((error, stream)) => {
                    let failure = classify(&error);
                    if failure == HandshakeFailure::Untrusted {
                        self.note_refusal();
                    }
                    Err(HandshakeError {
                        failure,
                        error,
                        stream: Some(stream),
                    })
                }
            }
        }

        /// Logs, once, what a developer has to do for whom this is the first try.
        fn note_refusal(&self) {
            if !self.was_refused.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    "a client refuses the certificate: it has to trust its issuer, and to connect by a name that the \
                     certificate has (docs/tls.md)"
                );
            }
        }
    }

    /// Waits for the first byte of a connection, and returns whether it begins a handshake of TLS. The byte stays unread.
    ///
    /// # Errors
    ///
    /// When the connection ends before.
    async fn begins_with_tls(stream: &TcpStream) -> io::Result<bool> {
        let mut first = [0];
        match stream.peek(&mut first).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(first == [HANDSHAKE_RECORD]),
        }
    }

    fn classify(error: &io::Error) -> HandshakeFailure {
        let cause = error.get_ref().and_then(|error| error.downcast_ref());
        match cause {
            Some(rustls::Error::AlertReceived(
                AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRevoked
                | AlertDescription::UnsupportedCertificate,
            )) => HandshakeFailure::Untrusted,
            Some(_) => HandshakeFailure::Protocol,
            None => HandshakeFailure::Closed,
        }
    }
}
