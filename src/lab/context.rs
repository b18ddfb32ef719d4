//! The properties of a frame or call by which rules filter.
//!
//! Serves the modules with a site (the connection, the services and the registration of an access server), which fill it in,
//! and `rule`, which compares it with the filters.

use crate::id::Uid;
use crate::proto::Cmd;

/// The frame or call at a site, as far as the filters of rules can see it.
#[derive(Debug, Clone, Copy, Default)]
pub struct FrameContext<'a> {
    /// The user of the session or of the store call; `None` before the login.
    pub uid: Option<Uid>,
    /// Name of the access server; `None` at sites that belong to no access server.
    pub access: Option<&'a str>,
    /// Id of the session; `None` at sites without a session.
    pub session: Option<u64>,
    /// Command of the frame; `None` for a frame of an unknown command and at sites without frames.
    pub cmd: Option<Cmd>,
}
