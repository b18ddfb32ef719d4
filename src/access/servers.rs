//! The list of a stack's access servers.
//!
//! Serves the start of the stack, and tests and the admin API, which look servers up by name and add servers. The list only
//! grows: a server that is down stays in it, and can be restarted.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::Mutex;

use super::{AccessServer, AddError, Told};
use crate::config::{self, Config, Host, Role};
use crate::core::Core;
use crate::listener::Listeners;

/// The access servers of one stack. Servers can be added, but are never removed.
#[derive(Debug)]
pub struct AccessServers {
    list: RwLock<Vec<Arc<AccessServer>>>,
    /// The config of the stack at its start, from which the settings of an added server are taken.
    config: Config,
    core: Arc<Core>,
    /// Held while a server is added, so that no two servers get the same name.
    adding: Mutex<()>,
}

impl AccessServers {
    /// Starts the access servers of the config, each on the listeners at the same position.
    ///
    /// A stack without the role `access` has no listeners, and so no servers.
    ///
    /// # Errors
    ///
    /// The error of the system, when the address of a listener can't be read. Servers that were started are ended then.
    pub async fn start(
        config: Config,
        listeners: Vec<Listeners>,
        core: Arc<Core>,
    ) -> io::Result<Self> {
        let mut list = Vec::new();
        for (server, listeners) in config.access.0.iter().zip(listeners) {
            let host = server.advertise.as_deref().map(Host::dialable);
            let told = Told {
                // The config was validated, so there is no error to report here.
                host: host.and_then(Result::ok),
                websocket: server.ws_advertise.clone(),
            };
            let server =
                AccessServer::start(&server.name, told, listeners, &config, Arc::clone(&core))
                    .await?;
            list.push(server);
        }
        Ok(AccessServers {
            list: RwLock::new(list),
            config,
            core,
            adding: Mutex::default(),
        })
    }

    /// Returns all access servers, whatever their state: first those of the config, in its order, then those that were
    /// added.
    pub fn all(&self) -> Vec<Arc<AccessServer>> {
        self.list.read().clone()
    }

    /// Returns the access server with a name, whatever its state.
    pub fn get(&self, name: &str) -> Option<Arc<AccessServer>> {
        let list = self.list.read();
        list.iter().find(|server| server.name() == name).cloned()
    }

    /// Starts one more access server. It listens on a free port of the first server's host, and is advertised with the
    /// same host as the first server. It takes WebSocket clients if the first server does.
    ///
    /// # Errors
    ///
    /// [`AddError`], which says what to change. No server was added then.
    pub async fn add(&self, name: &str) -> Result<Arc<AccessServer>, AddError> {
        if !self.config.has_role(Role::Access) {
            return Err(AddError::NoRole);
        }
        let _adding = self.adding.lock().await;
        if self.get(name).is_some() {
            let name = name.to_owned();
            return Err(AddError::NameTaken { name });
        }
        let first = self.config.access.0.first();
        let host = first.map_or([127, 0, 0, 1].into(), |first| first.listen.ip());
        let listen = SocketAddr::new(host, 0);
        let ws_listen = first.and_then(|first| first.ws_listen);
        let ws_listen = ws_listen.map(|first| SocketAddr::new(first.ip(), 0));
        let mut config = self.config.clone();
        config.access.0.push(config::AccessServer {
            name: name.to_owned(),
            listen,
            advertise: None,
            ws_listen,
            ws_advertise: None,
        });
        // The name has to be valid as one in imd.toml, so the whole config is validated with the new server.
        config.validate()?;
        let listeners = Listeners::bind(listen, ws_listen).map_err(|error| error.source)?;
        let advertise = first.and_then(|first| first.advertise.as_deref());
        let advertise = advertise.and_then(|host| Host::dialable(host).ok());
        let told = Told {
            host: advertise.map(Host::without_port),
            websocket: None,
        };
        let server =
            AccessServer::start(name, told, listeners, &self.config, Arc::clone(&self.core))
                .await?;
        self.list.write().push(Arc::clone(&server));
        self.core.lab.faults().add_server(name);
        Ok(server)
    }
}
