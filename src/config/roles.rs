//! `roles`: which servers an `imd` runs.

use serde::{Deserialize, Serialize};

use super::Config;
use super::error::{Invalid, ensure};

/// A server that a process of the stack can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Tells clients which access server to use.
    Gateway,
    /// Holds the sessions of clients, on the access servers of `[[access]]`. The store and the stack's HTTP APIs, which work
    /// on it, belong to this role.
    Access,
}

/// The roles of one `imd`: both, unless the config names one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Roles(pub Vec<Role>);

impl Default for Roles {
    fn default() -> Self {
        Roles(vec![Role::Gateway, Role::Access])
    }
}

impl Config {
    /// Returns whether the config gives an `imd` this role.
    pub fn has_role(&self, role: Role) -> bool {
        self.roles.0.contains(&role)
    }

    /// Checks that there are roles, and what each of them needs.
    pub(super) fn check_roles(&self) -> Result<(), Invalid> {
        let roles = &self.roles.0;
        ensure(!roles.is_empty(), "roles", || {
            "names none: give \"gateway\", \"access\", or both".into()
        })?;
        let count = |role| roles.iter().filter(|&&other| other == role).count();
        let is_repeated = count(Role::Gateway) > 1 || count(Role::Access) > 1;
        ensure(!is_repeated, "roles", || "names one twice".into())?;
        let needs_access = self.has_role(Role::Access);
        ensure(!needs_access || !self.access.0.is_empty(), "access", || {
            "at least one [[access]] is needed".into()
        })
    }
}
