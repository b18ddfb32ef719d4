//! TLS: certificates, the handshake of an accepted connection, and the local CA.
//!
//! Serves the listeners, which hand each accepted socket to an [`Acceptor`]; `daemon`, which makes the certificate of a stack
//! and renews it; the client, for the roots that it trusts; and the program, for `imd ca`. Nothing here knows the config or
//! what is spoken on a connection.
//!
//! [`Acceptor`] and [`MaybeTls`] are in every build, so that the listeners are written once. In a build without the cargo
//! feature `tls`, an acceptor only ever returns plain connections, and the rest is not there.
//!
//! | module | contents |
//! |---|---|
//! | `acceptor` | the handshake on the server's side, and why it fails |
//! | `stream` | a connection with or without TLS |
//! | `certificate` | a certificate with its key: read, checked, and replaced while it is in use |
//! | `files` | the certificate of two files |
//! | `local_ca` | the local CA |
//! | `names` | the names and addresses of this machine |
//! | `trust` | what a client trusts, and the handshake on its side |
//! | `upkeep` | the task that reads or issues the certificate again |

mod acceptor;
#[cfg(feature = "tls")]
mod certificate;
#[cfg(feature = "tls")]
mod files;
#[cfg(feature = "tls")]
mod local_ca;
#[cfg(feature = "tls")]
mod names;
mod stream;
#[cfg(feature = "tls")]
mod trust;
#[cfg(feature = "tls")]
mod upkeep;

pub use acceptor::{Acceptor, HandshakeError, HandshakeFailure, NEEDS_HTTPS};
#[cfg(feature = "tls")]
pub use certificate::{Certificate, CurrentCertificate, Unusable, provider};
#[cfg(feature = "tls")]
pub use files::{CertificateFiles, FileError};
#[cfg(feature = "tls")]
pub use local_ca::{LocalCa, LocalCaError};
#[cfg(feature = "tls")]
pub use names::names_of_this_machine;
pub use stream::{ClientStream, MaybeTls, ServerStream};
#[cfg(feature = "tls")]
pub use trust::{Trust, TrustError};
#[cfg(feature = "tls")]
pub use upkeep::{Origin, OriginError, Upkeep};
