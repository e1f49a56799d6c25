//! A configuration while it is read: every value remembers where it was written, so that rules about several of them
//! can point at one.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::findings::{At, Span};
use super::{
    Balance, Certificates, Config, DnsConfig, Dnssec, Foreign, Limits, Nameserver, RoleConfig, StaticServer,
    StatusConfig, StatusSocket, Timeouts,
};
use crate::pattern::Pattern;
use crate::role::Role;

/// A [`Config`] with places. A scalar is `None` where what was written could not be read, and a list then lacks items:
/// no rule may conclude anything from what is missing.
pub(super) struct Draft {
    pub(super) listen: Vec<At<SocketAddr>>,
    pub(super) idle_exit: Option<At<Duration>>,
    pub(super) allow_remote_clients: Option<At<bool>>,
    pub(super) domain: Option<At<String>>,
    pub(super) certname: Option<At<String>>,
    pub(super) foreign: Option<At<Foreign>>,
    pub(super) roles: Vec<RoleDraft>,
    pub(super) sniff: Option<At<Duration>>,
    pub(super) connect: Option<At<Duration>>,
    pub(super) budget: Option<At<Duration>>,
    pub(super) idle: Option<At<Duration>>,
    pub(super) pin: Option<At<Duration>>,
    pub(super) drain: Option<At<Duration>>,
    pub(super) connections: Option<At<usize>>,
    pub(super) hello: Option<At<usize>>,
    pub(super) nameservers: Vec<At<Nameserver>>,
    pub(super) dns_timeout: Option<At<Duration>>,
    pub(super) max_stale: Option<At<Duration>>,
    pub(super) allow_loopback: Option<At<bool>>,
    pub(super) dnssec: Option<At<Dnssec>>,
    pub(super) trust_anchor: Option<At<PathBuf>>,
    pub(super) dns_ca_file: Option<At<PathBuf>>,
    pub(super) check: Option<At<bool>>,
    pub(super) ca_file: Option<At<PathBuf>>,
    pub(super) status_socket: Option<At<StatusSocket>>,
    pub(super) status_group: Option<At<String>>,
    pub(super) status_page: Option<At<bool>>,
}

/// A [`RoleConfig`] with places.
pub(super) struct RoleDraft {
    pub(super) role: Role,
    /// Where its table is, if it has one.
    pub(super) header: Option<Span>,
    pub(super) names: Vec<At<String>>,
    pub(super) ports: Vec<At<u16>>,
    pub(super) srv: Option<At<Option<String>>>,
    pub(super) fallback: Option<At<bool>>,
    pub(super) servers: Vec<At<StaticServer>>,
    pub(super) balance: Option<At<Balance>>,
    pub(super) prefer: Vec<At<Pattern>>,
    pub(super) allow_targets: Vec<At<Pattern>>,
    /// `None`: not written, or nothing of it could be read.
    pub(super) allow_ports: Option<Vec<At<RangeInclusive<u16>>>>,
}

impl RoleDraft {
    /// A role of the site's own before its table has been read: nothing leads to it and it leads nowhere but to the
    /// requested name itself.
    pub(super) fn new(role: &str) -> Self {
        RoleDraft::of(RoleConfig {
            role: Role::new(role),
            names: Vec::new(),
            ports: Vec::new(),
            srv: None,
            fallback: false,
            servers: Vec::new(),
            balance: Balance::default(),
            prefer: Vec::new(),
            allow_targets: Vec::new(),
            allow_ports: None,
        })
    }

    fn of(config: RoleConfig) -> Self {
        RoleDraft {
            role: config.role,
            header: None,
            names: unwritten(config.names),
            ports: unwritten(config.ports),
            srv: some(config.srv),
            fallback: some(config.fallback),
            servers: unwritten(config.servers),
            balance: some(config.balance),
            prefer: unwritten(config.prefer),
            allow_targets: unwritten(config.allow_targets),
            allow_ports: config.allow_ports.map(unwritten),
        }
    }

    fn into_config(self) -> RoleConfig {
        RoleConfig {
            role: self.role,
            names: values(self.names),
            ports: values(self.ports),
            srv: self.srv.and_then(|at| at.value),
            fallback: self.fallback.is_some_and(|at| at.value),
            servers: values(self.servers),
            balance: value_or(self.balance, Balance::default()),
            prefer: values(self.prefer),
            allow_targets: values(self.allow_targets),
            allow_ports: self.allow_ports.map(values),
        }
    }
}

impl Default for Draft {
    /// The defaults, written nowhere.
    fn default() -> Self {
        let Config {
            listen,
            idle_exit,
            allow_remote_clients,
            domain,
            certname,
            foreign,
            roles,
            timeouts,
            limits,
            dns,
            certificates,
            status,
        } = Config::default();
        Draft {
            listen: unwritten(listen),
            idle_exit: some(idle_exit),
            allow_remote_clients: some(allow_remote_clients),
            domain: domain.map(At::default_of),
            certname: certname.map(At::default_of),
            foreign: some(foreign),
            roles: roles.into_iter().map(RoleDraft::of).collect(),
            sniff: some(timeouts.sniff),
            connect: some(timeouts.connect),
            budget: some(timeouts.budget),
            idle: some(timeouts.idle),
            pin: some(timeouts.pin),
            drain: some(timeouts.drain),
            connections: some(limits.connections),
            hello: some(limits.hello),
            nameservers: unwritten(dns.servers),
            dns_timeout: some(dns.timeout),
            max_stale: some(dns.max_stale),
            allow_loopback: some(dns.allow_loopback),
            dnssec: some(dns.dnssec),
            trust_anchor: dns.trust_anchor.map(At::default_of),
            dns_ca_file: dns.ca_file.map(At::default_of),
            check: some(certificates.check),
            ca_file: certificates.ca_file.map(At::default_of),
            status_socket: some(status.socket),
            status_group: status.group.map(At::default_of),
            status_page: some(status.page),
        }
    }
}

impl Draft {
    /// The configuration. Asked only where there was no error, so nothing is missing; what were missing would be the
    /// default.
    pub(super) fn into_config(self) -> Config {
        let Config { idle_exit, allow_remote_clients, foreign, timeouts, limits, dns, certificates, .. } =
            Config::default();
        Config {
            listen: values(self.listen),
            idle_exit: value_or(self.idle_exit, idle_exit),
            allow_remote_clients: value_or(self.allow_remote_clients, allow_remote_clients),
            domain: self.domain.map(|at| at.value),
            certname: self.certname.map(|at| at.value),
            foreign: value_or(self.foreign, foreign),
            roles: self.roles.into_iter().map(RoleDraft::into_config).collect(),
            timeouts: Timeouts {
                sniff: value_or(self.sniff, timeouts.sniff),
                connect: value_or(self.connect, timeouts.connect),
                budget: value_or(self.budget, timeouts.budget),
                idle: value_or(self.idle, timeouts.idle),
                pin: value_or(self.pin, timeouts.pin),
                drain: value_or(self.drain, timeouts.drain),
            },
            limits: Limits {
                connections: value_or(self.connections, limits.connections),
                hello: value_or(self.hello, limits.hello),
            },
            dns: DnsConfig {
                servers: values(self.nameservers),
                timeout: value_or(self.dns_timeout, dns.timeout),
                max_stale: value_or(self.max_stale, dns.max_stale),
                allow_loopback: value_or(self.allow_loopback, dns.allow_loopback),
                dnssec: value_or(self.dnssec, dns.dnssec),
                trust_anchor: self.trust_anchor.map(|at| at.value),
                ca_file: self.dns_ca_file.map(|at| at.value),
            },
            certificates: Certificates {
                check: value_or(self.check, certificates.check),
                ca_file: self.ca_file.map(|at| at.value),
            },
            status: StatusConfig {
                socket: value_or(self.status_socket, StatusSocket::default()),
                group: self.status_group.map(|at| at.value),
                page: value_or(self.status_page, true),
            },
        }
    }
}

fn unwritten<T>(values: Vec<T>) -> Vec<At<T>> {
    values.into_iter().map(At::default_of).collect()
}

// An `Option` because that is what the fields are.
#[allow(clippy::unnecessary_wraps)]
fn some<T>(value: T) -> Option<At<T>> {
    Some(At::default_of(value))
}

fn values<T>(items: Vec<At<T>>) -> Vec<T> {
    items.into_iter().map(|at| at.value).collect()
}

fn value_or<T>(at: Option<At<T>>, default: T) -> T {
    at.map_or(default, |at| at.value)
}
