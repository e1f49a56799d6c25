//! What was done, by role, since the state directory was new. No io.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::report::{Outcome, Report};
use crate::tunnel::End;

/// The key of connections that were no role's.
pub const FOREIGN: &str = "-";

/// Roles counted at once. A configuration has as many as it likes, and they come and go.
const ROLES: usize = 256;

/// All counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counters {
    roles: BTreeMap<String, Tally>,
}

/// The counts of one role. Each connection is counted once, when it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Tunnels that ended as they should.
    pub carried: u64,
    /// Tunnels that the server broke, or that were silent for too long.
    pub broken: u64,
    /// Connections that came to nothing.
    pub refused: u64,
    /// Bytes to servers.
    pub up: u64,
    /// Bytes to agents.
    pub down: u64,
}

impl Counters {
    /// Counts a connection that has ended. One that the daemon's own end cut short has not.
    pub fn count(&mut self, report: &Report) {
        let role = report.role.as_ref().map_or(FOREIGN, |role| role.as_str());
        if !self.roles.contains_key(role) {
            if self.roles.len() >= ROLES {
                return;
            }
            self.roles.insert(role.to_owned(), Tally::default());
        }
        let Some(tally) = self.roles.get_mut(role) else { return };
        let count = match &report.outcome {
            None => return,
            Some(Outcome::Tunnel(End::ServerBroke(_) | End::Idle(_))) => &mut tally.broken,
            Some(Outcome::Tunnel(_)) => &mut tally.carried,
            Some(Outcome::Refused { .. }) => &mut tally.refused,
        };
        *count = count.saturating_add(1);
        tally.up = tally.up.saturating_add(report.carried.up);
        tally.down = tally.down.saturating_add(report.carried.down);
    }

    /// By role, `-` for those that were no role's.
    pub fn roles(&self) -> impl Iterator<Item = (&str, &Tally)> {
        self.roles.iter().map(|(role, tally)| (role.as_str(), tally))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Kind};
    use crate::report::Told;
    use crate::role::Role;

    fn ended(role: Option<&str>, outcome: Outcome) -> Report {
        let mut report = Report::new(([127, 0, 0, 1], 1).into());
        report.role = role.map(Role::new);
        (report.carried.up, report.carried.down) = (3, 5);
        report.outcome = Some(outcome);
        report
    }

    #[test]
    fn counts_by_role_and_by_how_it_ended() {
        let mut counters = Counters::default();
        let refused = || Outcome::Refused { error: Error::new(Kind::Foreign, "no"), told: Told::Status(403) };
        for _ in 0..2 {
            counters.count(&ended(Some("compile"), Outcome::Tunnel(End::ClientClosed)));
        }
        counters.count(&ended(Some("compile"), Outcome::Tunnel(End::Idle(std::time::Duration::ZERO))));
        counters.count(&ended(None, refused()));
        let mut unended = ended(Some("compile"), refused());
        unended.outcome = None;
        counters.count(&unended);
        let compile = Tally { carried: 2, broken: 1, refused: 0, up: 9, down: 15 };
        let foreign = Tally { refused: 1, up: 3, down: 5, ..Tally::default() };
        assert_eq!(counters.roles().collect::<Vec<_>>(), [("-", &foreign), ("compile", &compile)]);
        let json = serde_json::to_string(&counters).unwrap();
        assert_eq!(serde_json::from_str::<Counters>(&json).unwrap(), counters);
    }

    #[test]
    fn roles_do_not_pile_up() {
        let mut counters = Counters::default();
        for n in 0..2 * ROLES {
            counters.count(&ended(Some(&format!("r{n}")), Outcome::Tunnel(End::ClientClosed)));
        }
        assert_eq!(counters.roles().count(), ROLES);
    }
}
