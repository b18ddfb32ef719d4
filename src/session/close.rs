use crate::proto::{Code, Reply};

/// Why a session was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The peer has closed its side.
    PeerClosed,
    /// The connection broke, or its task did.
    Broken,
    /// The user has logged out.
    Logout,
    /// The user has logged in on another session.
    LoggedInElsewhere,
    /// No login in time.
    LoginDeadline,
    /// No frame in time.
    Idle,
    /// A frame was begun and not completed in time.
    HalfFrame,
    /// The peer took nothing of what was written in time.
    WriteDeadline,
    /// A frame is longer than it may be before the login.
    FrameTooLong,
    /// Everything that the stack holds was replaced: by a reset, or by a snapshot.
    Replaced,
    /// A fault has closed the connection.
    Dropped,
    /// A fault has reset the connection.
    Reset,
    /// This server is stopping.
    Shutdown,
    /// This server has died: it says nothing, and the connection is reset.
    Killed,
}

impl CloseReason {
    /// What it is called in logs.
    pub const fn label(self) -> &'static str {
        match self {
            CloseReason::PeerClosed => "peer_closed",
            CloseReason::Broken => "broken",
            CloseReason::Logout => "logout",
            CloseReason::LoggedInElsewhere => "logged_in_elsewhere",
            CloseReason::LoginDeadline => "login_deadline",
            CloseReason::Idle => "idle",
            CloseReason::HalfFrame => "half_frame",
            CloseReason::WriteDeadline => "write_deadline",
            CloseReason::FrameTooLong => "frame_too_long",
            CloseReason::Replaced => "replaced",
            CloseReason::Dropped => "dropped",
            CloseReason::Reset => "reset",
            CloseReason::Shutdown => "shutdown",
            CloseReason::Killed => "killed",
        }
    }

    /// What the peer is told as the last frame, if anything. The other reasons are plain to the peer, have been
    /// answered already, or happen where the contract allows no frame.
    pub(super) fn farewell(self) -> Option<Reply> {
        match self {
            CloseReason::LoggedInElsewhere => {
                let code = Code::LoggedInElsewhere;
                Some(Reply::server(code, code.text()))
            }
            CloseReason::Replaced => {
                let code = Code::ServerError;
                Some(Reply::server(code, code.because("everything was reset")))
            }
            CloseReason::Shutdown => {
                let code = Code::ServerError;
                Some(Reply::server(code, code.because("shutting down")))
            }
            _ => None,
        }
    }

    /// Whether it ends a session also where the peer sees nothing of a close: when it is half-open.
    pub const fn ends_half_open(self) -> bool {
        matches!(
            self,
            CloseReason::Dropped | CloseReason::Reset | CloseReason::Replaced
        )
    }

    /// Whether the peer can't take another byte, or should not, so that the close needs no manners.
    pub(super) const fn is_abrupt(self) -> bool {
        matches!(
            self,
            CloseReason::Broken
                | CloseReason::WriteDeadline
                | CloseReason::Reset
                | CloseReason::Killed
        )
    }
}
