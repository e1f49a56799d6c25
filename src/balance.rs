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
    /// Each with what it said.
    pub servers: [(HostPort, Said); 2],
}

/// What a server said when it was asked how busy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// So much.
    Load(Load),
    /// That it does not tell: its `auth.conf` may forbid it, or it is no puppetserver.
    Nothing,
    /// It was silent, or could not be reached.
    Silence,
}

impl Loads {
    /// The first, if it was silent where the second was not.
    pub fn silent_first(&self) -> Option<&HostPort> {
        let [(first, said), (_, second)] = &self.servers;
        (*said == Said::Silence && *second != Said::Silence).then_some(first)
    }

    /// Whether the second should go before the first: it is freer, or the first is silent. One that does not tell is not
    /// passed over for that.
    pub fn prefers_second(&self) -> bool {
        match &self.servers {
            [(_, Said::Load(first)), (_, Said::Load(second))] => second.spare() > first.spare(),
            _ => self.silent_first().is_some(),
        }
    }
}

impl fmt::Display for Loads {
    /// `a.example.com:8140 3 free, 0 waiting; b.example.com:8140 no answer`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (server, load)) in self.servers.iter().enumerate() {
            let between = if n == 0 { "" } else { "; " };
            match load {
                Said::Load(Load { free, waiting }) => write!(f, "{between}{server} {free} free, {waiting} waiting")?,
                Said::Nothing => write!(f, "{between}{server} does not tell")?,
                Said::Silence => write!(f, "{between}{server} no answer")?,
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
        let said = |said: Option<Said>| said.unwrap_or(Said::Silence);
        Loads { servers: [(first.clone(), said(said_a)), (second.clone(), said(said_b))] }
    }

    /// What one server says; why it does not is told by what it does with the agent's own connection.
    async fn ask(&self, server: &HostPort) -> Said {
        let Ok(addresses) = self.discovery.addresses(&server.host).await else { return Said::Silence };
        for ip in addresses.ips {
            if let Ok(stream) = self.dialer.connect(SocketAddr::new(ip, server.port)).await {
                let load = self.prober.load(stream, self.asked.unwrap_or(&server.host)).await;
                return load.map_or(Said::Nothing, Said::Load);
            }
        }
        Said::Silence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(first: Said, second: Said) -> Loads {
        Loads { servers: [("a.test:8140".parse().unwrap(), first), ("b.test:8140".parse().unwrap(), second)] }
    }

    const fn load(free: u32, waiting: u32) -> Said {
        Said::Load(Load { free, waiting })
    }

    #[test]
    fn the_freer_one_goes_first() {
        for (first, second, prefers_second) in [
            (load(2, 0), load(3, 0), true),
            (load(3, 0), load(2, 0), false),
            (load(2, 0), load(2, 0), false),
            (load(0, 4), load(0, 3), true),
            (load(1, 0), load(0, 0), false),
            (Said::Silence, load(0, 9), true),
            (Said::Silence, Said::Nothing, true),
            (Said::Nothing, load(9, 0), false),
            (load(0, 9), Said::Nothing, false),
            (load(0, 9), Said::Silence, false),
            (Said::Silence, Said::Silence, false),
        ] {
            assert_eq!(loads(first, second).prefers_second(), prefers_second, "{first:?} {second:?}");
        }
    }

    #[test]
    fn in_words() {
        assert_eq!(
            loads(load(3, 1), Said::Silence).to_string(),
            "a.test:8140 3 free, 1 waiting; b.test:8140 no answer"
        );
    }
}
