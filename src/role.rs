//! Roles.

use std::fmt;
use std::sync::Arc;

/// What a server is for: `ca`, `compile`, `files`, `report`, or a role that the site adds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Role(Arc<str>);

impl Role {
    /// The role of that name.
    pub fn new(name: &str) -> Self {
        Role(name.into())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
