//! `roles`: which servers of the stack one process runs.
//!
//! Serves the start of the stack. By default one process has both roles; a process with one role is for tests in which
//! the other server is another process.

use serde::{Deserialize, Serialize};

use super::Config;
use super::error::{Invalid, ensure};

/// A part of the stack that a process can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The gateway, which tells clients which access server to use.
    Gateway,
    /// The access servers of `[[access]]`, which hold the sessions of clients. The store, and the HTTP APIs that work
    /// on it, belong to this role.
    Access,
}

/// The roles of one process. The default is both; a valid list is not empty, and names no role twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Roles(pub Vec<Role>);

impl Default for Roles {
    fn default() -> Self {
        Roles(vec![Role::Gateway, Role::Access])
    }
}

impl Config {
    /// Returns whether a process with this config has the role.
    pub fn has_role(&self, role: Role) -> bool {
        self.roles.0.contains(&role)
    }

    /// Checks that there is at least one role and none twice, and that the role `access` has an access server.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong: its key, and a message that says what to write instead.
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
