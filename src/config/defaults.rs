//! The default value of every table of the config.
//!
//! The values are those of the shipped imd.toml, except for `store.path`, which has no default. A test compares the
//! two.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{
    AccessServer, AccessServers, Auth, Gateway, Http, Idgen, Journal, Limits, PUBLIC_SALT,
    Registry, SecondLogin, Session, Shutdown, Store, Strategy, SyncMode,
};
use crate::lab::Capture;

/// Returns a port of the IPv4 loopback address.
const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// Returns a duration of whole seconds.
const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

impl Default for Gateway {
    fn default() -> Self {
        Gateway {
            listen: local(10000),
            ws_listen: None,
            strategy: Strategy::Random,
            refresh: seconds(5),
            idle: seconds(600),
            advertise_to: Vec::new(),
        }
    }
}

impl Default for Journal {
    fn default() -> Self {
        Journal {
            capture: Capture::Auto,
            events: 65_536,
            bytes: 32 << 20,
        }
    }
}

impl Default for AccessServers {
    fn default() -> Self {
        let mut servers = AccessServers(Vec::new());
        servers.resize(3);
        servers
    }
}

impl AccessServers {
    /// Changes the number of access servers to `count`, by removing the last ones or by adding new ones.
    ///
    /// A new server listens on the port after that of the server before it, or on a free port if that server does. Its
    /// name is `access-N`, with the first number that makes a new name.
    pub fn resize(&mut self, count: usize) {
        self.0.truncate(count);
        while self.0.len() < count {
            let listen = match self.0.last().map(|last| last.listen) {
                None => local(11000),
                Some(addr) => match addr.port() {
                    0 => addr,
                    port => SocketAddr::new(addr.ip(), port.saturating_add(1)),
                },
            };
            let taken = |name: &str| self.0.iter().any(|server| server.name == name);
            let name = (self.0.len() + 1..)
                .map(|n| format!("access-{n}"))
                .find(|n| !taken(n));
            let name = name.unwrap_or_default();
            self.0.push(AccessServer {
                name,
                listen,
                advertise: None,
                ws_listen: None,
                ws_advertise: None,
            });
        }
    }
}

impl Default for Registry {
    fn default() -> Self {
        Registry {
            lease: seconds(10),
            heartbeat: seconds(5),
        }
    }
}

impl Default for Session {
    fn default() -> Self {
        Session {
            login_deadline: seconds(300),
            idle: seconds(60),
            presence: seconds(15),
            write_deadline: seconds(10),
            half_frame: seconds(10),
            first_notify: Duration::from_millis(100),
            second_login: SecondLogin::Close,
            tcp_keepalive: seconds(30),
            tcp_user_timeout: seconds(30),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 65_536,
            frame_before_login: 4_096,
            message: 32_768,
            msg_id: 128,
            group_members: 2_000,
            outbound: 524_288,
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Auth {
            salt: PUBLIC_SALT.into(),
            auto_register: true,
            token_lifetime: seconds(24 * 3600),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Store {
            path: None,
            sync: SyncMode::Always,
            buffer: 16_777_216,
            min_free: 67_108_864,
            keep: None,
            max_inbox: None,
            memory_limit: 1_073_741_824,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Http {
            user_listen: local(6001),
            group_listen: local(7001),
            hosts: Vec::new(),
            cors_origins: Vec::new(),
            body: 65_536,
            timeout: seconds(10),
        }
    }
}

impl Default for Idgen {
    fn default() -> Self {
        Idgen { machine: 1 }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Shutdown { grace: seconds(5) }
    }
}
