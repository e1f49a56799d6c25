//! A host for the doctor: a daemon, an agent's settings, and a small site of servers.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;

use super::command::{Host, Running, output, text};
use super::dns::Dns;
use super::eventually;
use super::lab::{DOMAIN, TTL, fqdn};
use super::loopback;
use super::pki::{ClientCertificate, Identity, Pki};
use super::server::Server;

/// Debian's.
const PUPPET: &str = "/usr/bin/puppet";

/// The files from which variables come, `/etc/environment` and those of the agent's service.
const VARIABLES: [&str; 4] =
    ["etc/environment", "etc/default/puppet", "etc/sysconfig/puppet", "etc/sysconfig/puppetagent"];

/// In a mount namespace of its own: another hosts file, and none of this machine's files with variables.
const SCRIPT: &str = "
mount --bind \"$FOLDER/hosts\" /etc/hosts &&
for file in $VARIABLES; do
    if [ -e \"/$file\" ]; then mount --bind \"$FOLDER/$file\" \"/$file\" || exit 99; fi
done &&
exec \"$0\" \"$@\"
";

/// The host, and its site: a CA, and a compiler that serves files and takes reports too.
pub struct Patient {
    pub dns: Dns,
    pub pki: Arc<Pki>,
    pub ca: Server,
    pub compile: Vec<Server>,
    /// The agent's settings.
    pub settings: BTreeMap<&'static str, String>,
    /// Variables in the environment that the doctor, and whoever runs an agent there, has.
    pub variables: Vec<(&'static str, String)>,
    /// What `puppet` is.
    pub puppet: Kind,
    pub running: Option<Running>,
    pub listen: Vec<SocketAddr>,
    host: Host,
    folder: TempDir,
}

/// What `puppet` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Debian's package.
    Real,
    /// A script that prints the settings, and at once.
    Scripted,
    /// One that says nothing.
    Hanging,
}

/// What the doctor says.
pub struct Opinion {
    pub code: Option<i32>,
    pub json: Value,
}

/// One finding of its.
#[derive(Debug)]
pub struct Finding {
    pub group: String,
    pub check: String,
    pub subject: String,
    pub verdict: String,
    pub what: String,
    pub mend: Option<String>,
}

impl Patient {
    /// A host in good health, in proxy mode, with a daemon that runs.
    pub async fn start() -> Self {
        let [listen] = loopback::free_ports();
        let mut patient = Self::without_daemon(vec![listen]).await;
        patient.run().await;
        patient
    }

    /// The same before the daemon is started.
    pub async fn without_daemon(listen: Vec<SocketAddr>) -> Self {
        let (dns, pki) = (Dns::start().await, Arc::new(Pki::new()));
        let folder = TempDir::new().unwrap();
        let names = official_names();
        let ca = start_server(&dns, &pki, "ca", "ca", pki.identity(&[&[fqdn("ca")], &names[..]].concat())).await;
        let own = [fqdn("compile1")];
        let compile = start_server(&dns, &pki, "compile", "compile1", pki.identity(&[&own, &names[..]].concat())).await;
        dns.set_srv(&owner("-ca"), TTL, &[(0, 0, ca.address().port(), ca.name())]).await;
        let file = |name: &str| folder.path().join(name).display().to_string();
        fs::write(file("ca.pem"), pki.ca_pem()).unwrap();
        fs::write(file("host.pem"), pki.pem(&[fqdn("agent01")]).certificate).unwrap();
        fs::write(file("hosts"), "127.0.0.1 localhost\n").unwrap();
        for variables in VARIABLES {
            let path = folder.path().join(variables);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let settings = [
            ("server", fqdn("puppet")),
            ("ca_server", fqdn("puppetca")),
            ("report_server", fqdn("puppetreport")),
            ("pluginsource", format!("puppet://{}/plugins", fqdn("puppetfiles"))),
            ("http_proxy_host", listen[0].ip().to_string()),
            ("http_proxy_port", listen[0].port().to_string()),
            ("certname", fqdn("agent01")),
            ("hostcert", file("host.pem")),
            ("localcacert", file("ca.pem")),
        ];
        let host = Host::new("");
        let patient = Patient {
            dns,
            pki,
            ca,
            compile: vec![compile],
            settings: settings.into_iter().collect(),
            variables: Vec::new(),
            puppet: Kind::Scripted,
            running: None,
            listen,
            host,
            folder,
        };
        patient.configure("");
        patient.announce().await;
        patient
    }

    /// Starts the daemon.
    pub async fn run(&mut self) {
        self.running = Some(self.host.run().await);
        let accepted = self.host.state().join("accepted.toml");
        eventually("the daemon has kept its configuration", || accepted.exists()).await;
    }

    /// Publishes the compilers, the first in front.
    pub async fn announce(&self) {
        let servers = (0..).zip(&self.compile);
        let records: Vec<_> = servers.map(|(n, server)| (n, 0, server.address().port(), server.name())).collect();
        self.dns.set_srv(&owner(""), TTL, &records).await;
    }

    /// Another compiler, which is not published yet.
    pub async fn compiler(&self, name: &str, identity: Identity) -> Server {
        start_server(&self.dns, &self.pki, "compile", name, identity).await
    }

    /// Writes the configuration, with these lines on top.
    pub fn configure(&self, more: &str) {
        let listen: Vec<_> = self.listen.iter().map(|address| format!("\"{address}\"")).collect();
        let ports =
            ["ca", "compile", "files", "report"].map(|role| format!("role.{role}.allow_ports = [\"1-65535\"]\n"));
        let text = format!(
            "{more}listen = [{}]
domain = \"{DOMAIN}\"
dns.servers = [\"{}\"]
dns.allow_loopback = true
certificates.ca_file = \"{}\"
{}",
            listen.join(", "),
            self.dns.address(),
            self.file("ca.pem").display(),
            ports.concat()
        );
        self.host.configure(&text);
    }

    /// Has `systemctl` show this.
    pub fn systemd(&self, shown: &str) {
        let version = "[ \"$1\" = --version ] && echo 'systemd 252 (252)' && exit";
        let shown = format!("#!/bin/sh\n{version}\ncat <<'END'\n{shown}\nEND\n");
        executable(&self.file("bin/systemctl"), &shown);
    }

    /// Writes variables to a file of the host's, `/etc/environment` or `/etc/default/puppet`.
    pub fn set_variables(&self, file: &str, text: &str) {
        assert!(fs::exists(file).unwrap(), "this test needs {file}, which is to be replaced");
        fs::write(self.file(&file[1..]), text).unwrap();
    }

    /// Has `puppet-shim setup` been at work, with this mode.
    pub fn set_up(&self, mode: &str) {
        let record = format!(r#"{{"version":1,"mode":"{mode}","is_done":true,"changes":[]}}"#);
        fs::write(self.host.state().join("setup.json"), record).unwrap();
    }

    /// A file of the host's: `ca.pem`, `host.pem`, `hosts`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The state directory.
    pub fn state_directory(&self) -> PathBuf {
        self.host.state()
    }

    /// The state directory, as a list of names and contents.
    pub fn state(&self) -> Vec<(String, String)> {
        let entries = fs::read_dir(self.host.state()).into_iter().flatten().flatten();
        let mut state: Vec<_> = entries
            .map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()))
            .collect();
        state.sort();
        state
    }

    /// Asks the doctor, who speaks to machines.
    pub async fn ask(&self) -> Opinion {
        let (code, out, err) = self.said(&["--json"]).await;
        let json = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
        Opinion { code, json }
    }

    /// Asks it with these arguments: exit code, and what it prints on either.
    pub async fn said(&self, args: &[&str]) -> (Option<i32>, String, String) {
        executable(&self.file("puppet"), &self.script());
        let mut output = output(self.command(args)).await;
        for _ in 0..3 {
            // Ruby and all that it loads, on a machine that is busy with other tests.
            if self.puppet != Kind::Real || !text(&output.stdout).contains("has not printed its settings") {
                break;
            }
            output = super::command::output(self.command(args)).await;
        }
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    fn command(&self, args: &[&str]) -> Command {
        let args = [&["check"], args].concat();
        let mut command = self.host.prefixed(&["unshare", "-m", "sh", "-c", SCRIPT], &args);
        for name in ["http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "LC_ALL", "LC_CTYPE"] {
            command.env_remove(name);
        }
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", self.file("bin").display()));
        command.env("FOLDER", self.folder.path()).env("PUPPET_SHIM_PUPPET", self.file("puppet")).env("LANG", "C.UTF-8");
        command.env("VARIABLES", VARIABLES.join(" "));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn script(&self) -> String {
        match self.puppet {
            Kind::Hanging => "#!/bin/sh\nexec sleep 60\n".into(),
            Kind::Scripted => {
                let mut settings: BTreeMap<_, Value> =
                    self.settings.iter().map(|(name, value)| (*name, value.clone().into())).collect();
                settings.entry("no_proxy").or_insert("localhost, 127.0.0.1".into());
                format!("#!/bin/sh\ncat <<'END'\n{}\nEND\n", serde_json::to_string(&settings).unwrap())
            }
            Kind::Real => {
                let conf: Vec<_> = self.settings.iter().map(|(name, value)| format!("{name} = {value}")).collect();
                fs::write(self.file("puppet.conf"), format!("[main]\n{}\n", conf.join("\n"))).unwrap();
                assert!(fs::exists(PUPPET).unwrap(), "this test needs Debian's package puppet-agent");
                let folder = self.folder.path().display();
                // As on a host of its own: nothing of this machine's is read or written.
                format!("#!/bin/sh\nexec {PUPPET} \"$@\" --confdir {folder} --vardir {folder}/var\n")
            }
        }
    }
}

impl Opinion {
    /// Everything that it found.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for group in self.json["groups"].as_array().unwrap() {
            for finding in group["findings"].as_array().unwrap() {
                let word = |name: &str| finding[name].as_str().map(str::to_owned);
                findings.push(Finding {
                    group: group["name"].as_str().unwrap().to_owned(),
                    check: word("check").unwrap(),
                    subject: word("subject").unwrap(),
                    verdict: word("verdict").unwrap(),
                    what: word("what").unwrap(),
                    mend: word("mend"),
                });
            }
        }
        findings
    }

    /// All that is not as it should be.
    pub fn complaints(&self) -> Vec<Finding> {
        self.findings().into_iter().filter(|finding| finding.verdict != "ok").collect()
    }

    /// Panics unless all is well.
    pub fn is_healthy(&self) {
        assert_eq!(self.code, Some(0), "{:#?}", self.complaints());
        assert_eq!(
            (&self.json["warnings"], &self.json["problems"]),
            (&0.into(), &0.into()),
            "{:#?}",
            self.complaints()
        );
    }

    /// The only complaint, which has to be a problem.
    pub fn problem(&self) -> Finding {
        let mut complaints = self.complaints();
        assert_eq!(complaints.len(), 1, "{complaints:#?}");
        let complaint = complaints.remove(0);
        assert_eq!((complaint.verdict.as_str(), self.code), ("problem", Some(1)), "{complaint:#?}");
        complaint
    }
}

impl Finding {
    /// Panics unless it is about this, says this, and has this for a mend; each a part of it.
    pub fn says(&self, subject: &str, what: &str, mend: &str) {
        let has = self.mend.as_deref().unwrap_or_default();
        assert!(self.subject == subject && self.what.contains(what) && has.contains(mend), "{self:#?}");
    }
}

/// The names under which agents ask for the roles.
pub fn official_names() -> Vec<String> {
    ["puppet", "puppetca", "puppetfiles", "puppetreport"].map(fqdn).to_vec()
}

/// The owner name of a service's records.
pub fn owner(service: &str) -> String {
    format!("_x-puppet{service}._tcp.{DOMAIN}")
}

async fn start_server(dns: &Dns, pki: &Arc<Pki>, role: &str, name: &str, identity: Identity) -> Server {
    let server = Server::start_as(pki, role, &fqdn(name), identity, ClientCertificate::Optional).await;
    dns.set_addresses(server.name(), TTL, &[server.address().ip()]).await;
    server
}

/// Writes a script. Another process does it: were it open for writing here, a child that some other test forks just now
/// would have it open too, and "text file busy" be the end of whoever executes it.
fn executable(path: &Path, script: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let text = path.with_extension("text");
    fs::write(&text, script).unwrap();
    assert!(Command::new("install").args(["-m", "755"]).args([text.as_path(), path]).status().unwrap().success());
}
