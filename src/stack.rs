//! The servers of one `imd`, over their [`Core`]. A reset, the admin API and the handle work on them as a whole.

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
    /// The gateway.
    pub gateway: Gateway,
    /// The access servers.
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
