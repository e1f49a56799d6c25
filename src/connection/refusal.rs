//! Why a connection has come to nothing, and how its client is to hear of it.

use std::time::Duration;

use crate::dial::describe;
use crate::error::{Error, Kind};
use crate::race::{Lost, Why};
use crate::report::Report;
use crate::role::Via;
use crate::sniff::{Refused, Voice};

/// The daemon stops, and this connection is nobody's yet.
pub(super) fn stopping(report: &Report) -> Refused {
    let voice = match &report.asked {
        None => Voice::Nobody,
        Some(asked) if asked.via == Via::Tls => Voice::Alert,
        // A server has accepted, which the client has been told.
        Some(asked) if asked.via == Via::Connect && report.course.accepted.is_some() => Voice::Alert,
        Some(_) => Voice::Http,
    };
    Refused { error: Error::new(Kind::Stopping, "puppet-shim stops; try again"), voice }
}

/// A lost race, as the client is to hear of it.
pub(super) fn refuse(lost: Lost, voice: Voice, report: &Report, budget: Duration) -> Refused {
    // Behind the word that there is a tunnel, only TLS is understood.
    let voice = if lost.announced { Voice::Alert } else { voice };
    match lost.why {
        Why::ClientGone(how) => Refused {
            error: Error::new(Kind::Silent, format_args!("the client went before a server had answered: {how}")),
            voice: Voice::Nobody,
        },
        Why::OutOfTime => Refused { error: out_of_time(report, budget), voice },
        Why::NoneLeft => {
            let voice = match lost.alert {
                // What the servers have against this hello is better known to them.
                Some(record) if voice == Voice::Alert => Voice::ReadyAlert(record.into()),
                _ => voice,
            };
            Refused { error: unreachable(report), voice }
        }
    }
}

/// What was tried, in the agent's line: each server and what it did.
fn unreachable(report: &Report) -> Error {
    let all = &report.course.tries;
    let is_silent = !all.is_empty() && all.iter().all(|t| t.did.is_silence());
    let kind = if is_silent { Kind::TimedOut } else { Kind::Unreachable };
    let tried = describe(&report.course.tries);
    Error::new(kind, format_args!("no {} reachable: {tried}{}", what(report), report.in_vain))
}

pub(super) fn out_of_time(report: &Report, budget: Duration) -> Error {
    let tried = describe(&report.course.tries);
    let tried = if tried.is_empty() { "DNS did not answer" } else { &tried };
    Error::new(Kind::TimedOut, format_args!("no {} reachable within {budget:?}: {tried}", what(report)))
}

fn what(report: &Report) -> String {
    match (&report.role, &report.asked) {
        (Some(role), _) => format!("{role} server"),
        (None, Some(asked)) => asked.to_string(),
        (None, None) => "server".into(),
    }
}
