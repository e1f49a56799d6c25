//! When closing a tunnel harms nobody. No io, and the clock is an argument.
//!
//! We hold no key, so a close of ours is abrupt: the agent cannot tell it from a fault. It harms who is waiting for an
//! answer, and who may use the connection once more. It does not harm who would make a new one anyway.

use std::time::Duration;

use crate::role::Role;

/// How long an agent uses a connection again after the last answer: 4 s (`http_keepalive_timeout`), counted from when it
/// has read the answer, which is after we have passed it on.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// On the CA role, the agent of a new host may wait in a read for so long before it sends its next request on the same
/// connection (ruby/net-http#233): until the server closes.
const CA_PAUSE: Duration = Duration::from_secs(31);

/// The role whose servers sign certificates.
const CA: &str = "ca";

/// Who said something last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// The client: a request is under way.
    Client,
    /// The server: that was its answer, or a part of it.
    Server,
}

/// What is to become of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is closed: nobody minds.
    Close,
    /// It is closed although somebody may mind: there is no time left.
    Cut,
    /// It goes on, and is looked at again after so long.
    Wait(Duration),
}

/// How long a tunnel of this role has to be silent.
pub fn patience(role: Option<&Role>) -> Duration {
    if role.is_some_and(|role| role.as_str() == CA) { CA_PAUSE } else { KEEP_ALIVE }
}

/// Decides on a tunnel. `silent`: for how long nothing has gone through it; `left`: how long the stop may still take.
pub fn judge(spoke: Speaker, silent: Duration, patience: Duration, left: Duration) -> Verdict {
    let harmless = match spoke {
        Speaker::Server => patience.checked_sub(silent).filter(|rest| !rest.is_zero()),
        // A catalog may compile for minutes.
        Speaker::Client => Some(Duration::MAX),
    };
    match harmless {
        None => Verdict::Close,
        Some(_) if left.is_zero() => Verdict::Cut,
        Some(rest) => Verdict::Wait(rest.min(left)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn a_request_under_way_is_waited_for_while_there_is_time() {
        for silent in [Duration::ZERO, 100 * S, 3600 * S] {
            assert_eq!(judge(Speaker::Client, silent, KEEP_ALIVE, 9 * S), Verdict::Wait(9 * S));
            assert_eq!(judge(Speaker::Client, silent, KEEP_ALIVE, Duration::ZERO), Verdict::Cut);
        }
    }

    #[test]
    fn behind_an_answer_it_is_closed_once_the_agent_will_not_use_it_again() {
        let at = |silent, left| judge(Speaker::Server, silent, patience(Some(&Role::new("compile"))), left);
        assert_eq!(at(Duration::ZERO, 60 * S), Verdict::Wait(5 * S));
        assert_eq!(at(4 * S, 60 * S), Verdict::Wait(S));
        assert_eq!(at(4 * S, S / 2), Verdict::Wait(S / 2));
        assert_eq!(at(4 * S, Duration::ZERO), Verdict::Cut);
        assert_eq!(at(5 * S, 60 * S), Verdict::Close);
        assert_eq!(at(5 * S, Duration::ZERO), Verdict::Close);
        assert_eq!(at(500 * S, 60 * S), Verdict::Close);
    }

    #[test]
    fn the_pause_of_a_first_run_is_waited_for() {
        let at = |silent| judge(Speaker::Server, silent, patience(Some(&Role::new("ca"))), 60 * S);
        assert_eq!(at(5 * S), Verdict::Wait(26 * S));
        assert_eq!(at(30 * S), Verdict::Wait(S));
        assert_eq!(at(31 * S), Verdict::Close);
        assert_eq!(patience(None), KEEP_ALIVE);
    }
}
