//! Where a client connects to: host and port, or a URL for TLS or a WebSocket.
//!
//! Serves [`Client::connect`](super::Client::connect) and its siblings, which take an [`Address`] in each of the forms in
//! which tokio takes the address of a TCP connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use tokio::net::{TcpStream, lookup_host};
use tokio_tungstenite::tungstenite::http::Uri;

use super::ClientError;

/// The schemes of URLs, with the port of a URL that names none.
const SCHEMES: [(&str, Option<u16>); 3] = [("tls", None), ("ws", Some(80)), ("wss", Some(443))];

/// What a client can connect to. A text is `host:port`, or a URL: `tls://host:port` for TLS, `ws://host:port` for a WebSocket,
/// and `wss://host:port` for both.
pub trait Address: Send {
    /// Returns the address in the form that the client uses.
    fn endpoint(self) -> Endpoint;
}

/// An address, in the form that the client uses.
#[derive(Debug, Clone)]
pub struct Endpoint(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Sockets(Vec<SocketAddr>),
    Host(String, u16),
    Text(String),
}

impl Endpoint {
    /// Returns the URL of a WebSocket, if the address is one.
    pub(super) fn websocket(&self) -> Option<&str> {
        match &self.0 {
            Kind::Text(text) if matches!(scheme(text), Some("ws" | "wss")) => Some(text),
            _ => None,
        }
    }

    /// Returns whether the connection has TLS.
    pub(super) fn is_tls(&self) -> bool {
        matches!(&self.0, Kind::Text(text) if matches!(scheme(text), Some("tls" | "wss")))
    }

    /// Returns the host of a URL, for which the server's certificate has to be valid. Empty if the address is no URL.
    #[cfg(feature = "tls")]
    pub(super) fn host(&self) -> String {
        let Kind::Text(text) = &self.0 else {
            return String::new();
        };
        let (host, _) = host_of_url(text).unwrap_or_default();
        // A zone is of this machine only, and in no certificate.
        host.split_once('%')
            .map_or(host.as_str(), |(host, _)| host)
            .to_owned()
    }

    /// Returns the address of another server which a gateway at this address has named as host:port: it is spoken to in the
    /// same way.
    pub(super) fn beside(&self, addr: String) -> String {
        match self.is_tls() {
            true => format!("tls://{addr}"),
            false => addr,
        }
    }

    /// Opens a TCP connection to the address.
    ///
    /// # Errors
    ///
    /// [`ClientError::Io`], also for a text that is no address.
    pub(super) async fn connect(&self) -> Result<TcpStream, ClientError> {
        let addresses: Vec<SocketAddr> = match &self.0 {
            Kind::Sockets(addresses) => addresses.clone(),
            Kind::Host(host, port) => lookup_host((host.as_str(), *port)).await?.collect(),
            Kind::Text(text) if text.contains("://") => {
                let (host, port) = host_of_url(text)?;
                lookup_host((host, port)).await?.collect()
            }
            Kind::Text(text) => lookup_host(text).await?.collect(),
        };
        let stream = TcpStream::connect(&addresses[..]).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Returns host and port of a URL.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidInput`], which says what is wrong.
fn host_of_url(text: &str) -> io::Result<(String, u16)> {
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{text}: {why}"));
    let uri: Uri = text.parse().map_err(|_| wrong("this is no URL"))?;
    let known = SCHEMES.iter().find(|(name, _)| scheme(text) == Some(*name));
    let Some((_, port)) = known else {
        return Err(wrong("a URL begins with tls://, ws:// or wss:// here"));
    };
    let host = uri.host().ok_or_else(|| wrong("the URL has no host"))?;
    // An IPv6 address is looked up without its brackets.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().or(*port);
    let port = port.ok_or_else(|| wrong("the URL has no port"))?;
    Ok((host.to_owned(), port))
}

/// Returns the scheme of a URL. None if the text is none.
fn scheme(text: &str) -> Option<&str> {
    text.split_once("://").map(|(scheme, _)| scheme)
}

/// Makes types addresses, by how each becomes a [`Kind`].
macro_rules! addresses {
    ($($type:ty => |$address:ident| $kind:expr;)*) => {
        $(impl Address for $type {
            fn endpoint(self) -> Endpoint {
                let $address = self;
                Endpoint($kind)
            }
        })*
    };
}

addresses! {
    SocketAddr => |address| Kind::Sockets(vec![address]);
    &SocketAddr => |address| Kind::Sockets(vec![*address]);
    SocketAddrV4 => |address| Kind::Sockets(vec![address.into()]);
    SocketAddrV6 => |address| Kind::Sockets(vec![address.into()]);
    &[SocketAddr] => |addresses| Kind::Sockets(addresses.to_vec());
    (IpAddr, u16) => |address| Kind::Sockets(vec![address.into()]);
    (Ipv4Addr, u16) => |address| Kind::Sockets(vec![address.into()]);
    (Ipv6Addr, u16) => |address| Kind::Sockets(vec![address.into()]);
    (&str, u16) => |address| Kind::Host(address.0.to_owned(), address.1);
    (String, u16) => |address| Kind::Host(address.0, address.1);
    &str => |text| Kind::Text(text.to_owned());
    String => |text| Kind::Text(text);
    &String => |text| Kind::Text(text.clone());
    Endpoint => |endpoint| endpoint.0;
}

#[cfg(all(test, feature = "tls"))]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_whether_there_is_tls_and_a_websocket_and_whom_the_certificate_has_to_name() {
        for (text, is_tls, is_websocket, host) in [
            ("tls://[::1]:7", true, false, "::1"),
            ("tls://im.example:7/", true, false, "im.example"),
            ("wss://127.0.0.1", true, true, "127.0.0.1"),
            ("ws://h:7/path", false, true, "h"),
            ("h:7", false, false, ""),
        ] {
            let endpoint = text.endpoint();
            let found = (endpoint.is_tls(), endpoint.websocket().is_some());
            assert_eq!(
                (found, endpoint.host().as_str()),
                ((is_tls, is_websocket), host)
            );
        }
        assert!(host_of_url("tls://h").is_err() && host_of_url("tcp://h:1").is_err());
    }
}
