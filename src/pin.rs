//! An agent's run stays with one server. No io, and the clock is an argument.
//!
//! A run is a handful of connections, minutes apart at most. A pin belongs to a *set of servers*: roles that have the
//! same records share it, so that plugins and catalog come from one server.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::discovery::srv::Srv;
use crate::host::HostPort;
use crate::role::Role;

/// Sets remembered at once. A host has as many as it has roles.
const MOST: usize = 64;

/// A pin that is in use all the time is chosen anew after so long: the longest that an agent's run may take, Puppet's
/// `runtimeout`.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// The servers of a role, whatever their order, priority and weight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Set(Arc<[HostPort]>);

impl Set {
    /// The set that these records name.
    pub fn of(records: &[Srv]) -> Self {
        let server = |record: &Srv| Some(HostPort { host: record.target.clone()?, port: record.port });
        Self::from_servers(records.iter().filter_map(server).collect())
    }

    /// The set of these servers.
    pub fn from_servers(mut servers: Vec<HostPort>) -> Self {
        servers.sort_unstable();
        servers.dedup();
        Set(servers.into())
    }

    /// The servers, sorted.
    pub fn servers(&self) -> &[HostPort] {
        &self.0
    }
}

/// Which server a set's connections go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The server.
    pub server: HostPort,
    /// When a tunnel was last opened or closed.
    pub used: Instant,
    /// When it was chosen.
    pub since: Instant,
}

/// The pins of a host.
#[derive(Clone, Debug)]
pub struct Pins {
    sets: HashMap<Set, Pin>,
    /// Which set each role had last, so that a pin survives a change of the records that leaves its server in.
    roles: HashMap<Role, Set>,
    /// Tunnels that are open, by server.
    tunnels: HashMap<HostPort, usize>,
    hold: Duration,
}

impl Pins {
    /// `hold`: how long a pin lasts after the close of its last tunnel.
    pub fn new(hold: Duration) -> Self {
        Pins { sets: HashMap::new(), roles: HashMap::new(), tunnels: HashMap::new(), hold }
    }

    /// Changes how long a pin lasts after the close of its last tunnel.
    pub fn set_hold(&mut self, hold: Duration) {
        self.hold = hold;
    }

    /// The server that this role's connections go to, while it is in the set.
    pub fn get(&mut self, role: &Role, set: &Set, now: Instant) -> Option<&HostPort> {
        self.follow(role, set, now);
        self.sets.get(set).filter(|pin| self.is_live(pin, now)).map(|pin| &pin.server)
    }

    /// A tunnel to this server has been opened: the set's next connections are to follow it. `keep`: unless they follow
    /// another one already, which could not be taken for a reason of this connection's own.
    pub fn open(&mut self, role: &Role, set: &Set, server: &HostPort, keep: bool, now: Instant) {
        *self.tunnels.entry(server.clone()).or_default() += 1;
        self.make_room(set, now);
        if self.roles.get(role) != Some(set) {
            self.roles.insert(role.clone(), set.clone());
        }
        let before = self.sets.get(set).filter(|pin| self.is_live(pin, now));
        let since = match before {
            Some(pin) if pin.server == *server => pin.since,
            Some(_) if keep => return,
            _ => now,
        };
        self.sets.insert(set.clone(), Pin { server: server.clone(), used: now, since });
    }

    /// A tunnel to this server has been closed.
    pub fn close(&mut self, server: &HostPort, now: Instant) {
        if let Some(open) = self.tunnels.get_mut(server) {
            *open -= 1;
            if *open == 0 {
                self.tunnels.remove(server);
            }
        }
        self.sets.values_mut().filter(|pin| pin.server == *server).for_each(|pin| pin.used = now);
    }

    /// Whether a tunnel to this server is open.
    pub fn is_open(&self, server: &HostPort) -> bool {
        self.tunnels.contains_key(server)
    }

    /// Those that hold, for the state directory and for who wants to see them.
    pub fn live(&self, now: Instant) -> impl Iterator<Item = (&Set, &Pin)> {
        self.sets.iter().filter(move |(_, pin)| self.is_live(pin, now))
    }

    /// Takes over what the state directory had, as far as it still holds.
    pub fn restore(&mut self, set: Set, server: HostPort, used: Instant, now: Instant) {
        let pin = Pin { server, used, since: used };
        if self.sets.len() < MOST && self.is_live(&pin, now) && set.servers().contains(&pin.server) {
            self.sets.insert(set, pin);
        }
    }

    /// A host that is never silent for long chooses anew all the same, now and then, when no tunnel is open: a server that
    /// took over from a better one would keep it for ever.
    fn is_live(&self, pin: &Pin, now: Instant) -> bool {
        self.is_open(&pin.server) || now < pin.used + self.hold && now < pin.since + LONGEST.max(self.hold)
    }

    /// Where the role's records have changed in the middle of a run, its pin goes along, if its server is still there.
    fn follow(&mut self, role: &Role, set: &Set, now: Instant) {
        if self.sets.contains_key(set) {
            return;
        }
        let Some(before) = self.roles.get(role) else { return };
        let Some(pin) = self.sets.get(before).filter(|pin| self.is_live(pin, now)) else { return };
        if set.servers().contains(&pin.server) {
            let pin = pin.clone();
            self.make_room(set, now);
            self.sets.insert(set.clone(), pin);
            self.roles.insert(role.clone(), set.clone());
        }
    }

    /// Forgets what no longer holds, and where that is not enough, what was used longest ago.
    fn make_room(&mut self, set: &Set, now: Instant) {
        if self.sets.len() < MOST || self.sets.contains_key(set) {
            return;
        }
        let dead: Vec<Set> =
            self.sets.iter().filter(|(_, pin)| !self.is_live(pin, now)).map(|(set, _)| set.clone()).collect();
        for set in &dead {
            self.sets.remove(set);
        }
        if self.sets.len() >= MOST
            && let Some(oldest) = self.sets.iter().min_by_key(|(_, pin)| pin.used).map(|(set, _)| set.clone())
        {
            self.sets.remove(&oldest);
        }
        let sets = &self.sets;
        self.roles.retain(|_, set| sets.contains_key(set));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD: Duration = Duration::from_secs(300);

    fn server(name: &str) -> HostPort {
        HostPort { host: name.parse().unwrap(), port: 8140 }
    }

    fn set(names: &[&str]) -> Set {
        Set::from_servers(names.iter().map(|name| server(name)).collect())
    }

    fn role(name: &str) -> Role {
        Role::new(name)
    }

    #[test]
    fn lasts_while_a_tunnel_is_open_and_a_while_longer() {
        let (mut pins, mut now, both) = (Pins::new(HOLD), Instant::now(), set(&["a", "b"]));
        let compile = role("compile");
        assert_eq!(pins.get(&compile, &both, now), None);
        pins.open(&compile, &both, &server("b"), false, now);
        pins.open(&compile, &both, &server("b"), false, now);
        now += 3 * HOLD;
        assert_eq!(pins.get(&compile, &both, now), Some(&server("b")));
        pins.close(&server("b"), now);
        now += 3 * HOLD;
        assert_eq!(pins.get(&compile, &both, now), Some(&server("b")), "one tunnel is still open");
        pins.close(&server("b"), now);
        now += Duration::from_secs(299);
        assert_eq!(pins.get(&compile, &both, now), Some(&server("b")));
        now += Duration::from_secs(1);
        assert_eq!(pins.get(&compile, &both, now), None);
    }

    #[test]
    fn belongs_to_the_set_and_not_to_the_role() {
        let (mut pins, now) = (Pins::new(HOLD), Instant::now());
        pins.open(&role("files"), &set(&["b", "a"]), &server("a"), false, now);
        assert_eq!(pins.get(&role("compile"), &set(&["a", "b"]), now), Some(&server("a")));
        assert_eq!(pins.get(&role("compile"), &set(&["a", "b", "c"]), now), None);
    }

    #[test]
    fn goes_to_whoever_took_over() {
        let (mut pins, now, both) = (Pins::new(HOLD), Instant::now(), set(&["a", "b"]));
        let compile = role("compile");
        pins.open(&compile, &both, &server("a"), false, now);
        pins.open(&compile, &both, &server("b"), false, now);
        assert_eq!(pins.get(&compile, &both, now), Some(&server("b")));
        // What still ran through the old one changes nothing.
        pins.close(&server("a"), now);
        assert!(!pins.is_open(&server("a")) && pins.is_open(&server("b")));
        // Unless the old one was passed over for a reason of that connection's own.
        pins.open(&compile, &both, &server("a"), true, now);
        assert_eq!(pins.get(&compile, &both, now), Some(&server("b")));
    }

    #[test]
    fn survives_a_change_of_the_records_that_leaves_its_server() {
        let (mut pins, now) = (Pins::new(HOLD), Instant::now());
        let compile = role("compile");
        pins.open(&compile, &set(&["a", "b"]), &server("b"), false, now);
        assert_eq!(pins.get(&compile, &set(&["b", "c"]), now), Some(&server("b")));
        assert_eq!(pins.get(&compile, &set(&["a", "c"]), now), None, "it has left");
    }

    /// The tunnels that are open count, whichever set they were opened for.
    #[test]
    fn survives_a_change_of_the_records_for_as_long_as_its_tunnel() {
        let (mut pins, mut now) = (Pins::new(HOLD), Instant::now());
        let compile = role("compile");
        pins.open(&compile, &set(&["a", "b"]), &server("b"), false, now);
        assert!(pins.get(&compile, &set(&["b", "c"]), now).is_some());
        now += 10 * HOLD;
        assert_eq!(pins.get(&compile, &set(&["b", "c"]), now), Some(&server("b")));
        pins.close(&server("b"), now);
        now += HOLD;
        assert_eq!(pins.get(&compile, &set(&["b", "c"]), now), None);
    }

    /// A host that is never silent for five minutes would otherwise stay with a backup for ever.
    #[test]
    fn does_not_last_for_ever_where_nobody_is_ever_silent() {
        let (mut pins, mut now, both) = (Pins::new(HOLD), Instant::now(), set(&["a", "b"]));
        let compile = role("compile");
        let began = now;
        while pins.get(&compile, &both, now).is_some() || now == began {
            pins.open(&compile, &both, &server("b"), false, now);
            pins.close(&server("b"), now);
            now += HOLD / 5;
            assert!(now < began + 2 * LONGEST, "still pinned");
        }
        assert!(now >= began + LONGEST);
    }

    #[test]
    fn records_that_change_all_the_time_take_no_more_room() {
        let (mut pins, now) = (Pins::new(HOLD), Instant::now());
        let compile = role("compile");
        for n in 0..10 * MOST {
            let changed = set(&["stays", &format!("s{n}")]);
            pins.get(&compile, &changed, now);
            pins.open(&compile, &changed, &server("stays"), false, now);
            assert!(pins.sets.len() <= MOST);
        }
    }

    #[test]
    fn of_no_length_ends_with_its_tunnel() {
        let (mut pins, now, one) = (Pins::new(Duration::ZERO), Instant::now(), set(&["a"]));
        pins.open(&role("ca"), &one, &server("a"), false, now);
        assert!(pins.get(&role("ca"), &one, now).is_some());
        pins.close(&server("a"), now);
        assert_eq!(pins.get(&role("ca"), &one, now), None);
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let (mut pins, mut now) = (Pins::new(HOLD), Instant::now());
        for n in 0..10 * MOST {
            let one = set(&[&format!("s{n}")]);
            pins.open(&role("ca"), &one, &one.servers()[0].clone(), false, now);
            pins.close(&one.servers()[0].clone(), now);
            now += HOLD / 32;
        }
        assert!(pins.sets.len() <= MOST, "{}", pins.sets.len());
    }
}
