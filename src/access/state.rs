//! The states of an access server.
//!
//! Serves `lifecycle`, whose table says which operation leads from which state to which, `error`, whose errors name the state
//! that did not allow an operation, and the admin API, which shows the name of the state.

/// The state of an access server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServerState {
    /// The server serves its sessions.
    Running,
    /// The server keeps its sockets open, but neither reads, answers nor renews anything.
    Paused,
    /// The server, or its stack, was stopped. It no longer listens, and its sessions are being told so or have ended.
    Stopped,
    /// The server was killed. It no longer listens, and its connections were reset.
    Killed,
}

impl ServerState {
    /// Returns the name of the state in the admin API and in messages.
    pub const fn name(self) -> &'static str {
        match self {
            ServerState::Running => "running",
            ServerState::Paused => "paused",
            ServerState::Stopped => "stopped",
            ServerState::Killed => "killed",
        }
    }
}
