//! Through a tunnel to its end, or from one process to the next.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Pinned, Rest, Shared, pin};
use crate::drain::patience;
use crate::handover::{Label, Parcel, Pin};
use crate::host::HostPort;
use crate::notify::monotonic;
use crate::pin::Set;
use crate::report::{Outcome, Report};
use crate::role::Role;
use crate::stop::{Order, Stop};
use crate::tunnel::{Carried, Pause, Tunnel};

/// A connection that the next process is to go on with. Dropped without that, it is cut.
pub struct Left {
    parcel: Parcel,
    report: Report,
    /// Until then its run stays.
    pin: Option<Pinned>,
}

impl Left {
    /// What is to be handed over.
    pub fn parcel(&self) -> &Parcel {
        &self.parcel
    }

    /// It has been handed over: its story goes on elsewhere. To whoever writes down where runs stay, it is still open.
    pub fn is_taken(self) -> Option<Pinned> {
        self.report.hand_over();
        self.pin
    }
}

/// Goes on with a tunnel of the last process.
pub async fn resume(shared: Arc<Shared>, stop: Arc<Stop>, parcel: Parcel) -> Option<Rest> {
    let Parcel { client, server, label, held: [up, down] } = parcel;
    let _open = shared.gauge.connection();
    // The host's clock at this moment, on that of this process.
    let (now, host) = (Instant::now(), monotonic());
    let when = |at: Duration| now.checked_sub(host.saturating_sub(at)).unwrap_or(now);
    let mut report = Report::new(label.from);
    report.started = when(label.started);
    report.role = label.facts.role.as_deref().map(Role::new);
    report.carried = Carried { up: label.up, down: label.down, sni: label.sni.and_then(|sni| sni.parse().ok()) };
    report.restarts = label.restarts + 1;
    report.before = Some(Box::new(label.facts));
    let pin = label.pin.and_then(|Pin { role, set, server }| {
        let servers: Result<Vec<HostPort>, _> = set.iter().map(|server| server.parse()).collect();
        Some(pin(&shared, &Role::new(&role), &Set::from_servers(servers.ok()?), &server.parse().ok()?, true))
    });
    // One of which a socket is of no use has the line of one that was cut.
    let (client, server) = (stream(client).ok()?, stream(server).ok()?);
    let tunnel = Tunnel::resume(client, server, &label.tunnel, (up, down), when(label.active));
    go_through(shared, tunnel, pin, report, stop.orders()).await.map(Rest::Tunnel)
}

fn stream(socket: OwnedFd) -> io::Result<TcpStream> {
    TcpStream::from_std(socket.into())
}

/// A tunnel to its end, or to where the next process is to go on with it.
pub(super) async fn go_through(
    shared: Arc<Shared>,
    mut tunnel: Tunnel,
    pin: Option<Pinned>,
    mut report: Report,
    mut orders: watch::Receiver<Order>,
) -> Option<Box<Left>> {
    let open = {
        let before = report.before.as_ref().and_then(|facts| facts.server.clone());
        let server = before.or_else(|| report.chosen().map(|chosen| chosen.server.to_string()));
        shared.gauge.tunnel(report.role.as_ref().map(Role::as_str), server.as_deref())
    };
    let (idle, patience) = (shared.config.timeouts.idle, patience(report.role.as_ref()));
    match tunnel.carry(idle, patience, &mut orders, &mut report.carried).await {
        Pause::Ended(end) => report.outcome = Some(Outcome::Tunnel(end)),
        Pause::Cut => {}
        Pause::Parked => return leave(tunnel, pin, report),
    }
    shared.count(&report);
    drop((tunnel, pin, open));
    // The line can wait for whoever has connected meanwhile.
    tokio::task::yield_now().await;
    None
}

/// Packs a tunnel up.
fn leave(tunnel: Tunnel, pin: Option<Pinned>, report: Report) -> Option<Box<Left>> {
    let host = monotonic();
    let when = |at: Instant| host.saturating_sub(at.elapsed());
    let active = when(tunnel.active());
    // A socket that the runtime does not give back is closed, and the line says that it was cut.
    let (client, server, parked, held) = tunnel.into_parts().ok()?;
    let Carried { up, down, sni } = &report.carried;
    let label = Label {
        from: report.from,
        started: when(report.started),
        active,
        restarts: report.restarts,
        facts: report.facts(),
        up: *up,
        down: *down,
        sni: sni.as_ref().map(ToString::to_string),
        pin: pin.as_ref().map(|pin| Pin {
            role: pin.role.as_str().into(),
            set: pin.set.servers().iter().map(ToString::to_string).collect(),
            server: pin.server.to_string(),
        }),
        tunnel: parked,
        ..Label::default()
    };
    Some(Box::new(Left { parcel: Parcel { client, server, label, held }, report, pin }))
}
