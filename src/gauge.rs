//! How many connections are open. No io.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts what is open.
#[derive(Debug, Default)]
pub struct Gauge {
    connections: AtomicU64,
    tunnels: Mutex<BTreeMap<Ends, u64>>,
}

/// The role, and the server that has the tunnel; empty where there is none.
type Ends = (String, String);

/// A connection that is open for as long as this is there.
#[derive(Debug)]
pub struct Open {
    gauge: Arc<Gauge>,
    /// `None`: it is counted among all.
    ends: Option<Ends>,
}

impl Gauge {
    /// One more connection, a tunnel or not yet.
    pub fn connection(self: &Arc<Self>) -> Open {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Open { gauge: self.clone(), ends: None }
    }

    /// One more tunnel.
    pub fn tunnel(self: &Arc<Self>, role: Option<&str>, server: Option<&str>) -> Open {
        let ends = (role.unwrap_or_default().to_owned(), server.unwrap_or_default().to_owned());
        *self.lock().entry(ends.clone()).or_default() += 1;
        Open { gauge: self.clone(), ends: Some(ends) }
    }

    /// Connections that are open, tunnels included.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Tunnels that are open, of this role, and to this server if one is named.
    pub fn tunnels(&self, role: &str, server: Option<&str>) -> u64 {
        let is_one = |ends: &Ends| ends.0 == role && server.is_none_or(|server| ends.1 == server);
        self.lock().iter().filter(|(ends, _)| is_one(ends)).map(|(_, count)| count).sum()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Ends, u64>> {
        self.tunnels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(ends) = &self.ends else {
            self.gauge.connections.fetch_sub(1, Ordering::Relaxed);
            return;
        };
        let mut tunnels = self.gauge.lock();
        if let Some(count) = tunnels.get_mut(ends) {
            *count -= 1;
            if *count == 0 {
                tunnels.remove(ends);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_open_and_forgets_what_is_not() {
        let gauge = Arc::<Gauge>::default();
        let connection = gauge.connection();
        let tunnels = [("compile", "a:1"), ("compile", "a:1"), ("compile", "b:1"), ("ca", "a:1")]
            .map(|(role, server)| gauge.tunnel(Some(role), Some(server)));
        let foreign = gauge.tunnel(None, None);
        assert_eq!((gauge.connections(), gauge.tunnels("compile", None), gauge.tunnels("", None)), (1, 3, 1));
        assert_eq!((gauge.tunnels("compile", Some("a:1")), gauge.tunnels("report", None)), (2, 0));
        drop((connection, tunnels, foreign));
        assert_eq!(gauge.connections(), 0);
        assert!(gauge.lock().is_empty());
    }
}
