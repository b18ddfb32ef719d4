//! The reasons for which a session is closed, and what its peer is told about each.
//!
//! Serves everything that closes a session, the connection, which writes the farewell of the reason, and the logs, the
//! metrics and the journal, which show its label. The labels are part of the format of these.

use crate::proto::{Code, Reply};

/// The reason for which a session was closed. A session that was closed already, half-open or not, can get one more reason,
/// one that [ends a half-open session](Self::ends_half_open); from then on that one counts.
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
    /// The peer has not logged in within `session.login_deadline`.
    LoginDeadline,
    /// The peer has completed no frame for as long as `session.idle`, or `gateway.idle`, allows, while the server waited for
    /// one.
    Idle,
    /// The peer has begun a frame and not completed it within `session.half_frame`.
    HalfFrame,
    /// The peer has taken none of the bytes that were written to it, for as long as `session.write_deadline`.
    WriteDeadline,
    /// The peer has sent a frame that is longer than the limit before the login.
    FrameTooLong,
    /// The peer has broken a rule of the WebSocket protocol.
    ProtocolError,
    /// Everything that the stack holds was replaced, by a reset or by a snapshot.
    Replaced,
    /// A fault or the admin API has closed the connection.
    Dropped,
    /// A fault or the admin API has reset the connection (RST).
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
            CloseReason::ProtocolError => "protocol_error",
            CloseReason::Replaced => "replaced",
            CloseReason::Dropped => "dropped",
            CloseReason::Reset => "reset",
            CloseReason::Shutdown => "shutdown",
            CloseReason::Killed => "killed",
        }
    }

    /// Returns the last frame that is written to the peer, if the reason has one. For the other reasons the peer knows why,
    /// was told by a reply, or may get no frame by the contract.
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

    /// Returns the code of the close frame that a WebSocket ends with (RFC 6455, 7.4.1). A peer that has closed the WebSocket
    /// itself, or broken its rules, gets the answer to that in place of this code.
    pub(super) const fn close_code(self) -> u16 {
        match self {
            CloseReason::PeerClosed | CloseReason::Logout => 1000,
            CloseReason::Shutdown => 1001,
            CloseReason::FrameTooLong => 1009,
            CloseReason::Replaced => 1012,
            _ => 1008,
        }
    }

    /// Returns whether the reason also ends a half-open session. A close for another reason leaves its connection as it is.
    pub const fn ends_half_open(self) -> bool {
        matches!(
            self,
            CloseReason::Dropped | CloseReason::Reset | CloseReason::Replaced
        )
    }

    /// Returns whether the connection is closed at once and without another byte, because the peer can't take one or must
    /// not get one.
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
