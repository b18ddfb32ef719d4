//! The commands of the wire contract: their numbers and their names.
//!
//! Serves every module that names a command: `command`, the replies, the faults and the journal of the lab, the metrics
//! and the clients. A number that is not here is no command of the contract.

use std::fmt;

use super::first_number;

/// A command of the wire contract, by its number (the table *Commands* of the contract).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Cmd {
    /// Asks the gateway for the address of an access server.
    ReqAccessServer = 10001,
    /// Binds a user to a session.
    Login = 20001,
    /// Renews the presence of the user who is logged in.
    Ping = 20002,
    /// Sends a message to one user.
    SendP2PMsg = 20003,
    /// Tells the sender of a message that its receiver has accepted it.
    AcceptP2PMsgAck = 20004,
    /// Sends a message to all members of a group.
    SendGroupMsg = 20005,
    /// Asks for the newer messages of the user's own inbox.
    SyncMsg = 20006,
    /// Pushed by the server: tells the user that the inbox holds a message that the user has not read.
    Notify = 20007,
    /// Ends the login and the session.
    Logout = 20008,
    /// Reports an error that belongs to no request, or to one whose command is not known.
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

    /// Returns the number in field 1 of every message of this command.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// Returns the command of that number, if the contract has one.
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

    /// Returns the command in field 1 of an encoded message that begins with this field, if the contract has that
    /// command.
    pub fn of(message: &[u8]) -> Option<Cmd> {
        Cmd::from_number(first_number(message)?)
    }

    /// Returns the name that the contract has for the command.
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

    /// Returns the command of that name, whether its letters are capital or small.
    pub fn named(name: &str) -> Option<Cmd> {
        Cmd::ALL
            .into_iter()
            .find(|cmd| cmd.name().eq_ignore_ascii_case(name))
    }

    /// Returns the index of the command in [`ALL`](Self::ALL).
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

/// Compares the command of a frame that may have none: `event.cmd == Cmd::Notify`.
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
