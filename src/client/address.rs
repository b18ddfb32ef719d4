//! Where a client connects to: host and port, or the URL of a WebSocket.
//!
//! Serves [`Client::connect`](super::Client::connect) and its siblings, which take an [`Address`] in each of the forms in
//! which tokio takes the address of a TCP connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use tokio::net::{TcpStream, lookup_host};
use tokio_tungstenite::tungstenite::http::Uri;

use super::ClientError;

/// The port of a `ws://` URL that names none.
const WS_PORT: u16 = 80;

/// What a client can connect to. A text is `host:port`, or a URL such as `ws://127.0.0.1:10100`.
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
            Kind::Text(text) if text.starts_with("ws://") => Some(text),
            _ => None,
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
    if uri.scheme_str() != Some("ws") {
        return Err(wrong("a URL begins with ws:// here"));
    }
    let host = uri.host().ok_or_else(|| wrong("the URL has no host"))?;
    // An IPv6 address is looked up without its brackets.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((host.to_owned(), uri.port_u16().unwrap_or(WS_PORT)))
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
