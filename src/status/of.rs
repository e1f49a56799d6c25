//! The parts put together. No io, and the clock is an argument.

use super::{ConfigurationStatus, ListenerState, ListenerStatus, Parts, Process, Status, Totals, problem};
use crate::counters::FOREIGN;
use crate::moment::Clocks;

impl Parts<'_> {
    /// How it is at this moment. The process is this one, where one is said to run.
    pub fn status(&self, clocks: &Clocks) -> Status {
        let listeners: Vec<ListenerStatus> = self.doors.iter().map(ListenerStatus::from).collect();
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").into(),
            at: clocks.at(clocks.now),
            process: self.process(clocks, &listeners),
            is_unasked: false,
            unanswered: None,
            unread: None,
            problems: Vec::new(),
            listeners,
            configuration: ConfigurationStatus::from(self.provenance),
            domain: self.table.domain().map(str::to_owned),
            connections_open: self.gauge.connections(),
            connections_limit: self.config.limits.connections as u64,
            roles: self.table.roles().iter().map(|role| self.role(role, clocks)).collect(),
            foreign: self.totals(FOREIGN),
            recent: self.history.recent().cloned().collect(),
        };
        status.problems = problem::all(&status);
        status
    }

    fn process(&self, clocks: &Clocks, listeners: &[ListenerStatus]) -> Option<Process> {
        let started = self.started?;
        // What is not there on this host keeps it no more than it keeps the daemon.
        let mut there = listeners.iter().filter(|listener| listener.state != ListenerState::Absent);
        let is_held = there.all(|listener| listener.state == ListenerState::Inherited);
        let leaves = is_held && !self.config.idle_exit.is_zero();
        Some(Process {
            pid: std::process::id(),
            started: clocks.at(started),
            uptime_seconds: seconds(clocks.now.saturating_duration_since(started)),
            idle_exit_seconds: leaves.then(|| seconds(self.config.idle_exit)),
        })
    }

    pub(super) fn totals(&self, role: &str) -> Totals {
        self.counters.roles().find(|(of, _)| *of == role).map(|(_, tally)| tally.into()).unwrap_or_default()
    }
}

/// With milliseconds: more is noise.
pub(super) fn seconds(span: std::time::Duration) -> f64 {
    (span.as_secs_f64() * 1000.0).round() / 1000.0
}
