//! `balance = "least-loaded"`: of two servers drawn by weight, the one that is less busy.
//!
//! Two random choices are enough: the better of two keeps a fleet from crowding the same server, which the best of all
//! would not. Asked only when a run begins, never in between.

use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::dial::Dialer;
use crate::discovery::Discovery;
use crate::host::{Host, HostPort};
use crate::probe::{Load, Prober};

/// For both answers together. A server that is well needs a tenth of a second, nearly all of it for TLS.
const PATIENCE: Duration = Duration::from_millis(400);

/// What it takes to ask servers how busy they are.
pub struct Scales<'a> {
    /// Finds addresses.
    pub discovery: &'a Discovery,
    /// Connects.
    pub dialer: &'a Dialer<'a>,
    /// Asks.
    pub prober: &'a Prober,
    /// The name to ask by, else each server's own.
    pub asked: Option<&'a Host>,
}

/// What two servers said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loads {
    /// Each with its load; `None`: it did not say.
    pub servers: [(HostPort, Option<Load>); 2],
}

impl Loads {
    /// Whether the second should go before the first: it is freer, or the only one that answered.
    pub fn prefers_second(&self) -> bool {
        match &self.servers {
            [(_, Some(first)), (_, Some(second))] => second.spare() > first.spare(),
            [(_, None), (_, Some(_))] => true,
            _ => false,
        }
    }
}

impl fmt::Display for Loads {
    /// `a.example.com:8140 3 free, 0 waiting; b.example.com:8140 no answer`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (server, load)) in self.servers.iter().enumerate() {
            let between = if n == 0 { "" } else { "; " };
            match load {
                Some(Load { free, waiting }) => write!(f, "{between}{server} {free} free, {waiting} waiting")?,
                None => write!(f, "{between}{server} no answer")?,
            }
        }
        Ok(())
    }
}

impl Scales<'_> {
    /// Asks both at once. Waits for 400 ms at most, until `deadline` if that is sooner.
    pub async fn weigh(&self, first: &HostPort, second: &HostPort, deadline: Instant) -> Loads {
        let (mut a, mut b) = (pin!(self.ask(first)), pin!(self.ask(second)));
        let patience = PATIENCE.min(deadline.saturating_duration_since(Instant::now()));
        let mut over = pin!(sleep(patience));
        let (mut said_a, mut said_b) = (None, None);
        while said_a.is_none() || said_b.is_none() {
            tokio::select! {
                load = &mut a, if said_a.is_none() => said_a = Some(load),
                load = &mut b, if said_b.is_none() => said_b = Some(load),
                () = &mut over => break,
            }
        }
        Loads { servers: [(first.clone(), said_a.flatten()), (second.clone(), said_b.flatten())] }
    }

    /// What one server says; why it does not is told by what it does with the agent's own connection.
    async fn ask(&self, server: &HostPort) -> Option<Load> {
        let addresses = self.discovery.addresses(&server.host).await.ok()?;
        for ip in addresses.ips {
            if let Ok(stream) = self.dialer.connect(SocketAddr::new(ip, server.port)).await {
                return self.prober.load(stream, self.asked.unwrap_or(&server.host)).await.ok();
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(first: Option<(u32, u32)>, second: Option<(u32, u32)>) -> Loads {
        let load = |load: Option<(u32, u32)>| load.map(|(free, waiting)| Load { free, waiting });
        Loads {
            servers: [("a.test:8140".parse().unwrap(), load(first)), ("b.test:8140".parse().unwrap(), load(second))],
        }
    }

    #[test]
    fn the_freer_one_goes_first() {
        for (first, second, prefers_second) in [
            (Some((2, 0)), Some((3, 0)), true),
            (Some((3, 0)), Some((2, 0)), false),
            (Some((2, 0)), Some((2, 0)), false),
            (Some((0, 4)), Some((0, 3)), true),
            (Some((1, 0)), Some((0, 0)), false),
            (None, Some((0, 9)), true),
            (Some((0, 9)), None, false),
            (None, None, false),
        ] {
            assert_eq!(loads(first, second).prefers_second(), prefers_second, "{first:?} {second:?}");
        }
    }

    #[test]
    fn in_words() {
        assert_eq!(loads(Some((3, 1)), None).to_string(), "a.test:8140 3 free, 1 waiting; b.test:8140 no answer");
    }
}
