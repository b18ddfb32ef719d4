use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Config, SecondLogin, form};

/// `[quirks]`: how the original behaves where `imd` does not, each a switch. docs/quirks.md says what a client sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quirks {
    /// The receiver of a message to one user is notified before the message is stored.
    pub notify_before_store: bool,
    /// How long the store then waits.
    #[serde(with = "form::duration")]
    pub notify_gap: Duration,
    /// A page begins with the message of version `currentID`, not after it.
    pub sync_inclusive: bool,
    /// Entries of a page have no groupID.
    pub sync_drops_group_id: bool,
    /// A command before the login is served, for the user whom it names.
    pub login_not_required: bool,
    /// The answers to messages have no ids.
    pub no_msg_id_in_replies: bool,
    /// A second login leaves the older session open: what `session.second_login = "demote"` does.
    pub old_session_stays_open: bool,
    /// The gateway knows no access server until it first refreshes its list.
    pub gateway_starts_empty: bool,
    /// Login and ping are answered by `ResLogin`, not by `Error`.
    pub replies_as_schema: bool,
}

impl Quirks {
    /// The names of those that are on.
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
    /// What a second login does. Quirk `old_session_stays_open`: it selects what can be selected anyway.
    pub fn second_login(&self) -> SecondLogin {
        if self.quirks.old_session_stays_open {
            SecondLogin::Demote
        } else {
            self.session.second_login
        }
    }
}
