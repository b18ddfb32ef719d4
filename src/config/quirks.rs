//! `[quirks]`: the behaviours of the original stack that `imd` can be switched to.
//!
//! Serves the services and the access servers, which read the switches. Every switch is off by default.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Config, SecondLogin, form};

/// The table `[quirks]`: one switch for each behaviour of the original stack that `imd` does not have by default.
///
/// docs/quirks.md describes what a client sees of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quirks {
    /// Notifies the receiver of a message to one user before the message is stored.
    pub notify_before_store: bool,
    /// How long the store waits after the early notify. Has an effect only with
    /// [`notify_before_store`](Self::notify_before_store).
    #[serde(with = "form::duration")]
    pub notify_gap: Duration,
    /// Begins a page with the message of version `currentID`, rather than with the one after it.
    pub sync_inclusive: bool,
    /// Leaves out the `groupID` of the entries of a page.
    pub sync_drops_group_id: bool,
    /// Serves commands before the login, on behalf of the user whom they name.
    pub login_not_required: bool,
    /// Leaves out all ids in the replies to messages.
    pub no_msg_id_in_replies: bool,
    /// Leaves the older session open after a second login, as `session.second_login = "demote"` does.
    pub old_session_stays_open: bool,
    /// Starts the gateway with an empty list of access servers, which it fills at its first refresh.
    pub gateway_starts_empty: bool,
    /// Answers login and ping with `ResLogin`, as the schema says, rather than with `Error`.
    pub replies_as_schema: bool,
}

impl Quirks {
    /// Returns the names of the switches that are on.
    pub fn on(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("notify_before_store", self.notify_before_store),
            ("sync_inclusive", self.sync_inclusive),
            ("sync_drops_group_id", self.sync_drops_group_id),
            ("login_not_required", self.login_not_required),
            ("no_msg_id_in_replies", self.no_msg_id_in_replies),
            ("old_session_stays_open", self.old_session_stays_open),
            ("gateway_starts_empty", self.gateway_starts_empty),
            ("replies_as_schema", self.replies_as_schema),
        ];
        all.into_iter()
            .filter_map(|(name, is_on)| is_on.then_some(name))
    }
}

impl Config {
    /// Returns what a second login of a user does.
    ///
    /// The quirk `old_session_stays_open` is another name for [`SecondLogin::Demote`], and overrides
    /// `session.second_login`.
    pub fn second_login(&self) -> SecondLogin {
        if self.quirks.old_session_stays_open {
            SecondLogin::Demote
        } else {
            self.session.second_login
        }
    }
}
