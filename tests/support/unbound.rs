//! unbound, Debian's forwarder: what stands between most hosts and the servers that have the records. It looks at no
//! signature itself, hands on what there is, and remembers nothing.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use hickory_server::proto::rr::RecordType;
use tempfile::TempDir;

use super::nameserver::{Process, free_address, program, run};
use super::pki::{Pem, Pki};

/// A running unbound.
pub struct Unbound {
    address: SocketAddr,
    tls: SocketAddr,
    process: Process,
}

impl Unbound {
    /// Starts one, on ports of its own, that forwards all questions to `upstream`, which has to have this zone.
    pub async fn before(upstream: SocketAddr, zone: &str) -> Self {
        Self::with(upstream, zone, |_| Pki::new().pem(&["dns.lab.test"])).await
    }

    /// The same with the certificate that it shows to who comes by TLS, there.
    pub async fn with(upstream: SocketAddr, zone: &str, certificate: impl FnOnce(SocketAddr) -> Pem) -> Self {
        let folder = TempDir::new().unwrap();
        let (address, tls) = (free_address(), free_address());
        let certificate = certificate(tls);
        fs::write(folder.path().join("certificate.pem"), &certificate.certificate).unwrap();
        fs::write(folder.path().join("key.pem"), &certificate.key).unwrap();
        let text = format!(
            r#"server:
    directory: "{folder}"
    chroot: ""
    username: ""
    pidfile: ""
    do-daemonize: no
    use-syslog: no
    logfile: ""
    num-threads: 1
    outgoing-range: 64
    num-queries-per-thread: 32
    interface: {address}@{port}
    interface: {tls_address}@{tls_port}
    tls-port: {tls_port}
    tls-service-pem: "{folder}/certificate.pem"
    tls-service-key: "{folder}/key.pem"
    access-control: 127.0.0.0/8 allow
    do-not-query-localhost: no
    # Otherwise it says by itself that nothing is in there.
    local-zone: "test." nodefault
    module-config: "iterator"
remote-control:
    control-enable: no
forward-zone:
    name: "."
    forward-addr: {upstream}@{upstream_port}
    forward-no-cache: yes
"#,
            folder = folder.path().display(),
            address = address.ip(),
            port = address.port(),
            tls_address = tls.ip(),
            tls_port = tls.port(),
            upstream = upstream.ip(),
            upstream_port = upstream.port(),
        );
        let config = folder.path().join("unbound.conf");
        fs::write(&config, text).unwrap();
        // Under its own path Debian's AppArmor profile keeps it from reading anything here. Copied by another process:
        // a file that this one has open for writing at the time of some fork cannot be run.
        let unbound = folder.path().join("unbound");
        run(Command::new("cp").arg(program("unbound", "unbound")).arg(&unbound));
        let mut process = Process::start(folder, Command::new(unbound).arg("-d").arg("-c").arg(config));
        process.answers(address, &[(zone, RecordType::SOA)]).await;
        Unbound { address, tls, process }
    }

    /// Where it takes plain questions.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it takes them over TLS.
    pub fn tls(&self) -> SocketAddr {
        self.tls
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }
}
