use std::fmt;

use super::first_number;

/// A command of the wire contract (its table *Commands*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Cmd {
    /// Asks the gateway for an access server.
    ReqAccessServer = 10001,
    /// Binds a user to a session.
    Login = 20001,
    /// Renews presence.
    Ping = 20002,
    /// A message to one user.
    SendP2PMsg = 20003,
    /// The receiver accepts a message.
    AcceptP2PMsgAck = 20004,
    /// A message to a group.
    SendGroupMsg = 20005,
    /// Asks for what is new in the user's own inbox.
    SyncMsg = 20006,
    /// Pushed: there is something new.
    Notify = 20007,
    /// Ends the login and the session.
    Logout = 20008,
    /// What the server says about a frame that has no reply of its own.
    ErrServer = 90001,
}

impl Cmd {
    /// Every command, in the order of their numbers.
    pub const ALL: [Cmd; 10] = [
        Cmd::ReqAccessServer,
        Cmd::Login,
        Cmd::Ping,
        Cmd::SendP2PMsg,
        Cmd::AcceptP2PMsgAck,
        Cmd::SendGroupMsg,
        Cmd::SyncMsg,
        Cmd::Notify,
        Cmd::Logout,
        Cmd::ErrServer,
    ];

    /// The number in field 1 of every frame.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The command of that number, if the contract knows one.
    pub fn from_number(number: u32) -> Option<Cmd> {
        Some(match number {
            10001 => Cmd::ReqAccessServer,
            20001 => Cmd::Login,
            20002 => Cmd::Ping,
            20003 => Cmd::SendP2PMsg,
            20004 => Cmd::AcceptP2PMsgAck,
            20005 => Cmd::SendGroupMsg,
            20006 => Cmd::SyncMsg,
            20007 => Cmd::Notify,
            20008 => Cmd::Logout,
            90001 => Cmd::ErrServer,
            _ => return None,
        })
    }

    /// The command that a message begins with, if the contract knows it.
    pub fn of(message: &[u8]) -> Option<Cmd> {
        Cmd::from_number(first_number(message)?)
    }

    /// What the contract calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Cmd::ReqAccessServer => "ReqAccessServer",
            Cmd::Login => "Login",
            Cmd::Ping => "Ping",
            Cmd::SendP2PMsg => "SendP2PMsg",
            Cmd::AcceptP2PMsgAck => "AcceptP2PMsgAck",
            Cmd::SendGroupMsg => "SendGroupMsg",
            Cmd::SyncMsg => "SyncMsg",
            Cmd::Notify => "Notify",
            Cmd::Logout => "Logout",
            Cmd::ErrServer => "ErrServer",
        }
    }

    /// The command of that name, however it is written in capitals.
    pub fn named(name: &str) -> Option<Cmd> {
        Cmd::ALL
            .into_iter()
            .find(|cmd| cmd.name().eq_ignore_ascii_case(name))
    }

    /// Its place in [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        match self {
            Cmd::ReqAccessServer => 0,
            Cmd::Login => 1,
            Cmd::Ping => 2,
            Cmd::SendP2PMsg => 3,
            Cmd::AcceptP2PMsgAck => 4,
            Cmd::SendGroupMsg => 5,
            Cmd::SyncMsg => 6,
            Cmd::Notify => 7,
            Cmd::Logout => 8,
            Cmd::ErrServer => 9,
        }
    }
}

/// So that a frame which may be of no command can be compared with one: `event.cmd == Cmd::Notify`.
impl PartialEq<Cmd> for Option<Cmd> {
    fn eq(&self, other: &Cmd) -> bool {
        self.as_ref() == Some(other)
    }
}

impl fmt::Display for Cmd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_by_its_index_its_number_and_its_name() {
        for (index, cmd) in Cmd::ALL.into_iter().enumerate() {
            assert_eq!(cmd.index(), index);
            assert_eq!(Cmd::from_number(cmd.number()), Some(cmd));
            assert_eq!(Cmd::named(&cmd.name().to_lowercase()), Some(cmd));
        }
    }
}
