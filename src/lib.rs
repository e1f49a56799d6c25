//! `puppet-shim`: a load balancer at layer 4 that lives on the Puppet agent's own host.
//!
//! The modules, in the order in which a connection meets them:
//!
//! ```text
//! listen ─► sniff ─► role ─► candidates ─► dial ─► tunnel ─► one log line
//!              │                 ▲            │
//!           CONNECT              │            └─ next candidate
//!                      discovery ┘◄─ SRV
//! ```

pub mod cli;
pub mod config;
pub mod connection;
pub mod daemon;
pub mod dial;
pub mod discovery;
pub mod domain;
pub mod error;
pub mod host;
pub mod listen;
pub mod log;
pub mod report;
pub mod role;
pub mod sniff;
pub mod tunnel;
pub mod state;
