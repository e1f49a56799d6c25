//! A Puppet site on loopback: DNS, a CA, servers that can be told to misbehave, agents, and the shim between them.
//!
//! Everything runs on the test's own current-thread runtime, on ports the kernel picks, and goes when its value is
//! dropped.

// Each integration test compiles this tree for itself and uses a part of it.
#![allow(dead_code, unreachable_pub)]
// A fixture that cannot be set up ends its test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod client;
pub mod clock;
pub mod command;
pub mod dns;
pub mod fault;
pub mod hello;
pub mod http;
pub mod journal;
pub mod knot;
pub mod lab;
pub mod loopback;
pub mod nameserver;
pub mod odd_dns;
pub mod patient;
pub mod pki;
pub mod puppet;
pub mod raw;
pub mod server;
pub mod shim;
pub mod site;
pub mod stream;
pub mod supervisor;
pub mod tap;
pub mod tcp;
pub mod unbound;

use std::time::Duration;

use tokio::time::{sleep, timeout};

use tcp::PATIENCE;

/// Waits until `condition` holds, and panics with `what` if it still does not after [`tcp::PATIENCE`].
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let poll = async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(timeout(PATIENCE, poll).await.is_ok(), "still not so after {PATIENCE:?}: {what}");
}
