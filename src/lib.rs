//! `puppet-shim`: a load balancer at layer 4 that lives on the Puppet agent's own host.
//!
//! The modules, in the order in which a connection meets them:
//!
//! ```text
//! listen ─► sniff ─► role ─► candidates ─► race ─► tunnel ─► one log line
//!              │             ▲         ▲      │
//!           CONNECT          │         └─ pool┘ what each did
//!                  discovery ┘◄─ SRV
//! ```
//!
//! [`connection`] is that line in code; [`daemon`] wires the parts; [`report`] is what is known of a connection at its
//! end.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod doctor;
pub mod log;
pub mod no_proxy;
pub mod process;
pub mod puppet;
pub mod reload;
pub mod runtime;
pub mod setup;
mod socket_table;
pub mod state;

pub mod handover;
pub mod inherited;
pub mod notify;

pub mod connection;
pub mod listen;
pub mod page;

pub mod sniff;

pub mod host;
pub mod hosts_file;
pub mod pattern;
pub mod role;

pub mod discovery;
pub mod domain;

pub mod health;
pub mod memory;
pub mod pick;
pub mod pin;
pub mod pool;
pub mod verdict;

pub mod balance;
pub mod check;

pub mod dial;
pub mod race;

pub mod certificate;
pub mod probe;
pub mod trust;

pub mod drain;
pub mod stop;
pub mod tunnel;

pub mod counters;
pub mod error;
pub mod gauge;
pub mod history;
pub mod moment;
pub mod report;
pub mod status;
