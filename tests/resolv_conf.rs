//! `/etc/resolv.conf` as a host has it: replaced while the daemon runs, as DHCP clients and VPNs do it, and with a search
//! list, which concerns names without a dot alone.
//!
//! The real binary, in a mount namespace where a folder of the test's is `/etc`. Nameservers there have port 53, each on
//! an address of its own.

// A test ends where its set-up fails.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use puppet_shim::config::Config;
use support::command::{Host, Running};
use support::dns::Dns;
use support::eventually;
use support::loopback;
use support::shim::Bare;
use support::tcp::{Answer, PATIENCE, ask};
use tempfile::TempDir;
use tokio::time::Instant;

/// A folder that is `/etc` for the daemon, and nobody else.
struct Etc(TempDir);

impl Etc {
    fn new(resolv_conf: &str) -> Self {
        let etc = Etc(TempDir::new().unwrap());
        etc.replace(resolv_conf);
        etc
    }

    /// Puts another file in the place of `resolv.conf`.
    fn replace(&self, resolv_conf: &str) {
        let new = self.0.path().join("resolv.conf.new");
        fs::write(&new, resolv_conf).unwrap();
        fs::rename(&new, self.0.path().join("resolv.conf")).unwrap();
    }

    /// Starts the daemon with it.
    async fn run(&self, host: &Host) -> Running {
        let script = format!("mount --bind {} /etc && exec \"$0\" \"$@\"", self.0.path().display());
        Running::start(host.prefixed(&["unshare", "-m", "sh", "-c", &script], &["run"])).await
    }
}

/// A nameserver on the port that `resolv.conf` cannot change.
async fn nameserver() -> Dns {
    Dns::at(SocketAddr::new(loopback::any_port().ip(), 53)).await
}

fn line(nameserver: &Dns) -> String {
    format!("nameserver {}\n", nameserver.address().ip())
}

/// Why nobody was reached.
async fn reason(shim: SocketAddr, target: &str) -> String {
    let Answer::Refused(502 | 503, reason) = ask(shim, target).await else { panic!("somebody was reached") };
    reason
}

/// How many roles there are, so that there is always one whose records have not been asked for.
const ROLES: usize = 200;

/// Which nameserver is asked shows in the target that it names: it has no address anywhere.
#[tokio::test]
async fn a_replaced_file_is_read_again() {
    let (old, new) = (nameserver().await, nameserver().await);
    let mut config = "listen = [\"127.0.0.1:0\"]\ndomain = \"lab.test\"\n".to_owned();
    for n in 0..ROLES {
        writeln!(config, "[role.role{n}]\nnames = [\"role{n}\"]\nsrv = \"_role{n}._tcp\"").unwrap();
        for (dns, target) in [(&old, "old.other.test"), (&new, "new.other.test")] {
            dns.set_srv(&format!("_role{n}._tcp.lab.test"), 60, &[(0, 0, 8140, target)]).await;
        }
    }
    let (etc, host) = (Etc::new(&line(&old)), Host::new(&config));
    let running = etc.run(&host).await;
    let named = async |n: usize| {
        let reason = reason(running.address(), &format!("role{n}:8140")).await;
        reason.split_once(": ").unwrap().1.split_once(':').unwrap().0.to_owned()
    };
    assert_eq!(named(0).await, "old.other.test");

    etc.replace(&line(&new));
    let (began, mut n) = (Instant::now(), 1);
    while named(n).await != "new.other.test" {
        assert!(began.elapsed() < PATIENCE && n + 1 < ROLES, "the old nameserver is still asked");
        tokio::time::sleep(Duration::from_millis(100)).await;
        n += 1;
    }
    eventually("it says so", || running.line("resolv.conf").is_some()).await;
    let said = running.line("resolv.conf").unwrap();
    assert!(said.contains("read again") && said.contains(&new.address().to_string()), "{said}");
    let asked = old.all_queries();
    assert_eq!(named(n + 1).await, "new.other.test");
    assert_eq!(old.all_queries(), asked);
}

/// The C library would ask for `nowhere.other.test.corp.test` next.
#[tokio::test]
async fn the_search_list_is_not_for_names_with_a_dot() {
    let dns = nameserver().await;
    let etc = Etc::new(&format!("search corp.test lab.test\noptions ndots:5\n{}", line(&dns)));
    let host = Host::new("listen = [\"127.0.0.1:0\"]\ndomain = \"lab.test\"\n");
    dns.set_srv("_x-puppet._tcp.lab.test", 60, &[(0, 0, 8140, "nowhere.other.test")]).await;
    let running = etc.run(&host).await;
    let reason = reason(running.address(), "puppet:8140").await;
    assert!(reason.contains("nowhere.other.test:8140 has no address in DNS"), "{reason}");
    assert_eq!(dns.names(), ["_x-puppet._tcp.lab.test", "nowhere.other.test"]);
}

/// The same for the domain, which is a search list of one.
#[tokio::test]
async fn nor_is_the_domain() {
    let bare = Bare::with(|config: &mut Config| config.domain = Some("lab.test".into())).await;
    bare.dns.set_srv("_x-puppet._tcp.lab.test", 60, &[(0, 0, 8140, "nowhere.other.test")]).await;
    reason(bare.shim(), "puppet:8140").await;
    assert_eq!(bare.dns.names(), ["_x-puppet._tcp.lab.test", "nowhere.other.test"]);
}

/// Names without a dot are looked for under each of its suffixes, in their order.
#[tokio::test]
async fn the_search_list_is_for_names_without_a_dot() {
    let dns = nameserver().await;
    let etc = Etc::new(&format!("search first.test second.test\n{}", line(&dns)));
    let host = Host::new("listen = [\"127.0.0.1:0\"]\ndomain = \"lab.test\"\nrole.ca.srv = false\n");
    // An address that is nobody's: the port is taken for the answer.
    let nobody: IpAddr = "192.0.2.1".parse().unwrap();
    dns.set_addresses("puppetca.third.test", 60, &[nobody]).await;
    let running = etc.run(&host).await;
    let reason = reason(running.address(), "puppetca:8140").await;
    assert!(reason.contains("puppetca:8140 has no address in DNS"), "{reason}");
    for name in ["puppetca.lab.test", "puppetca.first.test", "puppetca.second.test"] {
        assert!(dns.names().iter().any(|asked| asked == name), "{name}: {:?}", dns.names());
    }
}
