//! Ports that no other program is given while nothing listens on them.
//!
//! Serves the tests that stop a server and expect its port to be closed, or to be free for the next server.

use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

/// Returns an address of this machine for a listener that comes, goes and comes back: connections to it are refused in
/// between, and the system gives its port to no other program until this process ends.
///
/// The port is held by a socket that is bound and does not listen. On Linux a listener that sets `SO_REUSEADDR`, as every
/// listener of `imd` does, can be bound beside it. Elsewhere the socket is closed at once, and the port is only free.
pub fn reserved() -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    socket.set_reuse_address(true).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    if cfg!(target_os = "linux") {
        // Held for as long as the process lives.
        std::mem::forget(socket);
    }
    addr
}
