//! Why a session ends, and what its peer is told about it.

use crate::proto::{Code, Reply};

/// Why a session was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The peer has closed its writing side.
    PeerClosed,
    /// The connection broke, or the session's task panicked.
    Broken,
    /// The user has logged out.
    Logout,
    /// The user has logged in on another session.
    LoggedInElsewhere,
    /// The peer has not logged in in time.
    LoginDeadline,
    /// The peer has sent no frame in time.
    Idle,
    /// A frame was begun and not completed in time.
    HalfFrame,
    /// The peer has taken none of the bytes that were written, for too long.
    WriteDeadline,
    /// The peer has sent a frame that is longer than the limit before the login.
    FrameTooLong,
    /// Everything that the stack holds was replaced: by a reset, or by a snapshot.
    Replaced,
    /// A fault has closed the connection.
    Dropped,
    /// A fault has reset the connection.
    Reset,
    /// The server is stopping.
    Shutdown,
    /// The server was killed: nothing more is written, and the connection is reset.
    Killed,
}

impl CloseReason {
    /// Returns the name of the reason in logs, metrics and the journal.
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

    /// Returns the last frame that is written to the peer, if there is one. The other reasons are plain to the peer, have
    /// been told by a reply, or happen where the contract allows no frame.
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

    /// Returns whether the reason ends a half-open session too, which stays as it is otherwise.
    pub const fn ends_half_open(self) -> bool {
        matches!(
            self,
            CloseReason::Dropped | CloseReason::Reset | CloseReason::Replaced
        )
    }

    /// Returns whether the peer can't take another byte, or must not get one, so that the connection is closed at once.
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
