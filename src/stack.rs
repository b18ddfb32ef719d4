//! The servers of one `imd`: its gateway and its access servers, over their [`Core`].
//!
//! Serves `reset`, the admin API and [`Imd`](crate::Imd), which work on all servers of a stack together. It is a module of
//! its own so that they need not know each other.

use std::sync::Arc;

use crate::access::AccessServers;
use crate::core::Core;
use crate::gateway::Gateway;
use crate::session::SessionManager;

/// The gateway and the access servers of one `imd`.
#[derive(Debug)]
pub struct Stack {
    /// What the servers share.
    pub core: Arc<Core>,
    /// The gateway. In an `imd` without the role `gateway` it serves nobody.
    pub gateway: Gateway,
    /// The access servers, whatever their state. In an `imd` without the role `access` there are none.
    pub access: AccessServers,
}

impl Stack {
    /// Returns the session manager of every listener: that of the gateway, and that of each access server since its last
    /// start.
    pub fn session_managers(&self) -> Vec<Arc<SessionManager>> {
        let servers = self.access.all();
        let access = servers.iter().map(|server| server.sessions());
        std::iter::once(Arc::clone(self.gateway.session_manager()))
            .chain(access)
            .collect()
    }
}
