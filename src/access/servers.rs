//! The list of an `imd`'s access servers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use super::{AccessServer, AddError};
use crate::config::{self, Config, Host, Role};
use crate::core::Core;
use crate::listener::bind;

/// The access servers of one `imd`. Servers can be added, and none is ever removed: one that is down can be restarted.
#[derive(Debug)]
pub struct AccessServers {
    list: RwLock<Vec<Arc<AccessServer>>>,
    config: Config,
    core: Arc<Core>,
    /// Held while a server is added, so that no two servers get the same name.
    adding: Mutex<()>,
}

impl AccessServers {
    /// Starts the access servers of the config on their listeners, which are in the same order. Without listeners, for an
    /// `imd` without the role `access`, there are none.
    ///
    /// # Errors
    ///
    /// When a listener has no address.
    pub async fn start(
        config: Config,
        listeners: Vec<TcpListener>,
        core: Arc<Core>,
    ) -> io::Result<Self> {
        let mut list = Vec::new();
        for (server, listener) in config.access.0.iter().zip(listeners) {
            let advertise = server.advertise.as_deref().map(Host::dialable);
            // The config was validated, so there is no error to report here.
            let advertise = advertise.and_then(Result::ok);
            let server = AccessServer::start(
                &server.name,
                advertise,
                listener,
                &config,
                Arc::clone(&core),
            )
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

    /// Returns all access servers, whatever their state: those of the config in its order, then those that were added.
    pub fn all(&self) -> Vec<Arc<AccessServer>> {
        self.list.read().clone()
    }

    /// Returns the access server of this name.
    pub fn get(&self, name: &str) -> Option<Arc<AccessServer>> {
        let list = self.list.read();
        list.iter().find(|server| server.name() == name).cloned()
    }

    /// Starts one more access server, on a free port of the first server's host, and advertised at the same host as the
    /// first.
    ///
    /// # Errors
    ///
    /// [`AddError`]. No server was added then.
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
        let mut config = self.config.clone();
        config.access.0.push(config::AccessServer {
            name: name.to_owned(),
            listen,
            advertise: None,
        });
        // Validates the name as that of a server in imd.toml.
        config.validate()?;
        let listener = bind(listen)?;
        let advertise = first.and_then(|first| first.advertise.as_deref());
        let advertise = advertise
            .and_then(|host| Host::dialable(host).ok())
            .map(Host::without_port);
        let server = AccessServer::start(
            name,
            advertise,
            listener,
            &self.config,
            Arc::clone(&self.core),
        )
        .await?;
        self.list.write().push(Arc::clone(&server));
        self.core.lab.faults().add_server(name);
        Ok(server)
    }
}
