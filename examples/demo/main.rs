//! A Puppet site in one process, and an agent that runs through `puppet-shim`: `cargo run --release --example demo`.
//!
//! Everything is on loopback, on ports that were free, and goes when it ends. What it prints is what the servers and
//! the agent saw; where that is not what the shim promises, it says so and exits with 1.

use std::io::{self, Write};
use std::process::ExitCode;

use screen::Screen;
use support::client::{Agent, Answer, Connection, Failure, Way};
use support::fault::Fault;
use support::lab::{DOMAIN, Lab};
use support::loopback;
use support::pki::{Request, Trust};
use support::server::Server;
use tokio::time::Instant;

mod screen;
#[path = "../../tests/support/mod.rs"]
mod support;

/// The agent's name.
const CERTNAME: &str = "web01.lab.test";

/// The port of every Puppet service, unless the agent's settings say otherwise.
const PORT: u16 = 8140;

/// What of the shim's log lines fits a terminal and is not in the table.
const FIELDS: [&str; 4] = ["row", "server", "up", "down"];

type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match demo().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error closed, too, the exit code has to do.
            let _ = writeln!(io::stderr(), "\ndemo: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn demo() -> Result<()> {
    let ports = loopback::free_ports::<4>();
    let lab = Lab::with(|config| {
        config.certificates.check = true;
        // For port mode: a listener for each role.
        for (role, address) in config.roles.iter_mut().zip(ports) {
            role.ports.push(address.port());
            config.listen.push(address);
        }
    })
    .await;
    let mut tour = Tour { out: Screen::new(), lab, answered: 0 };
    tour.introduce()?;
    let agent = tour.first_contact().await?;
    tour.run(&agent).await?;
    tour.run_while_a_compiler_stops(&agent).await?;
    tour.run_while_a_compiler_hangs(&agent).await?;
    tour.other_ways(&agent).await?;
    tour.no_compiler_left(&agent).await?;
    tour.conclude()
}

/// The demo under way.
struct Tour {
    out: Screen,
    lab: Lab,
    /// How many requests have been answered as promised.
    answered: usize,
}

/// One request of the agent's, and who is to answer it.
struct Step<'a> {
    name: &'a str,
    role: &'a str,
    method: &'a str,
    path: String,
    body: &'a [u8],
}

impl<'a> Step<'a> {
    fn get(name: &'a str, role: &'a str, path: &str) -> Self {
        Step { name, role, method: "GET", path: path.into(), body: b"" }
    }
}

impl Tour {
    fn introduce(&mut self) -> Result<()> {
        let out = &mut self.out;
        out.say("A Puppet site on loopback: DNS with SRV records for each role, servers that want")?;
        out.say("to see the agent's certificate (but for the CA), and puppet-shim on the agent's")?;
        out.say(&format!("side of them. All names are under {DOMAIN}.\n"))?;
        for server in self.lab.servers() {
            out.say(&format!("  {:9} {:9} {}", server.role(), short(server.name()), server.address()))?;
        }
        out.say(&format!("  {:9} {:9} {}", "", "shim", self.lab.shim()))?;
        Ok(())
    }

    /// A new agent: it trusts the first answer for the CA's certificate, and gets one of its own.
    async fn first_contact(&mut self) -> Result<Agent> {
        self.out.title("1. A new agent, its http_proxy_host and http_proxy_port set to the shim")?;
        self.out.say("Without a certificate yet. Only the CA takes it so, and only the CA answers.")?;
        self.out.head()?;
        let way = Way::Proxy(self.lab.shim());
        let ca = |what: &str| format!("/puppet-ca/v1/{what}");

        let nobody = Agent::new(way, &Trust::Anybody, None);
        let step = Step::get("CA certificate", "ca", &ca("certificate/ca"));
        let bundle = self.visit(&nobody, "puppetca", None, &[step]).await?.remove(0);
        let trust = Trust::from_pem(&bundle.response.body).ok_or("the CA's certificate is none")?;

        let stranger = Agent::new(way, &trust, None);
        let step = Step::get("revocation list", "ca", &ca("certificate_revocation_list/ca"));
        self.visit(&stranger, "puppetca", None, &[step]).await?;

        let request = Request::new(CERTNAME);
        let put = Step {
            name: "signing request",
            role: "ca",
            method: "PUT",
            path: ca(&format!("certificate_request/{CERTNAME}")),
            body: request.pem.as_bytes(),
        };
        let get = Step::get("certificate", "ca", &ca(&format!("certificate/{CERTNAME}")));
        let certificate = self.visit(&stranger, "puppetca", None, &[put, get]).await?.remove(1);
        let identity = request.signed(&certificate.response.body).ok_or("the agent's certificate is none")?;
        Ok(Agent::new(way, &trust, Some(&identity)))
    }

    /// A run in which nothing happens.
    async fn run(&mut self, agent: &Agent) -> Result<()> {
        self.out.title("2. Its first run")?;
        self.out.say("Each role has servers of its own, and each sees the agent's own certificate: the")?;
        self.out.say("shim carries the TLS between them and ends none of it.")?;
        self.out.head()?;
        self.node(agent).await?;
        self.plugins(agent).await?;
        self.catalog(agent).await?;
        self.file_and_report(agent).await
    }

    /// A run whose compiler stops between two of its connections.
    async fn run_while_a_compiler_stops(&mut self, agent: &Agent) -> Result<()> {
        self.out.title("3. The next run, and a compiler that stops in the middle of it")?;
        self.out.head()?;
        let first = self.node(agent).await?.witness.server;
        self.plugins(agent).await?;
        let stopped = self.compiler(&first)?;
        stopped.stop().await;
        let taken = stopped.accepted();
        self.out.event(&format!("{} stops while the agent collects its facts", short(&first)))?;
        let second = self.catalog(agent).await?.witness.server;
        if second == first || self.compiler(&first)?.accepted() != taken {
            return Err(format!("{first} has stopped, and yet it answered").into());
        }
        self.file_and_report(agent).await?;
        self.compiler(&first)?.restart().await;
        self.out.say(&format!("The catalog came from {}; to the agent, nothing has happened.", short(&second)))?;
        self.out.event(&format!("{} starts again", short(&first)))?;
        Ok(())
    }

    /// A run whose compiler accepts connections, and says nothing.
    async fn run_while_a_compiler_hangs(&mut self, agent: &Agent) -> Result<()> {
        self.out.title("4. A compiler that hangs: it takes connections, and says nothing")?;
        self.out.say("Puppet itself waits for two minutes here, three times in each run.")?;
        self.out.head()?;
        let first = self.node(agent).await?.witness.server;
        self.compiler(&first)?.set_fault(Some(Fault::Mute));
        self.out.event(&format!("{} hangs from here on", short(&first)))?;
        let second = self.catalog(agent).await?.witness.server;
        let taken = self.compiler(&first)?.accepted();
        self.node(agent).await?;
        if second == first || self.compiler(&first)?.accepted() != taken {
            return Err(format!("{first} hangs, and yet the agent was sent there again").into());
        }
        self.compiler(&first)?.set_fault(None);
        self.out.say("The first connection lost a quarter of a second, the next one nothing.")?;
        Ok(())
    }

    /// SNI alone, and the port alone, tell the role as well.
    async fn other_ways(&mut self, agent: &Agent) -> Result<()> {
        self.out.title("5. The other two ways in, without a proxy setting")?;
        self.out.say("Alias mode: the names lead to the shim's address, and SNI tells the role.")?;
        self.out.head()?;
        let aliases = [("puppetca", "ca"), ("puppet", "compile"), ("puppetfiles", "files"), ("puppetreport", "report")];
        let status = |role| Step::get("status", role, "/status/v1/simple");
        let shim = self.lab.shim();
        for (name, role) in aliases {
            let agent = agent.by(Way::Direct(shim));
            self.visit_at(&agent, name, shim.port(), Some(CERTNAME), &[status(role)]).await?;
        }
        self.out.say("\nPort mode: one name for everything, and the port tells the role.")?;
        self.out.head()?;
        let listeners = self.lab.shim_addresses()[1..].to_vec();
        for (listener, (_, role)) in listeners.into_iter().zip(aliases) {
            let agent = agent.by(Way::Direct(listener));
            self.visit_at(&agent, "puppet", listener.port(), Some(CERTNAME), &[status(role)]).await?;
        }
        Ok(())
    }

    /// What the agent is told when nobody is left to answer.
    async fn no_compiler_left(&mut self, agent: &Agent) -> Result<()> {
        self.out.title("6. No compiler left")?;
        self.lab.compile1.stop().await;
        self.lab.compile2.stop().await;
        let (status, reason) = match agent.connect("puppet", PORT).await {
            Err(Failure::Refused { status, reason }) => (status, reason),
            Err(other) => return Err(format!("with no compiler left, the agent got no reason but {other}").into()),
            Ok(_) => return Err("with no compiler left, the agent was connected to somebody".into()),
        };
        self.lab.journal.take(1).await;
        for compiler in [&self.lab.compile1, &self.lab.compile2] {
            if !reason.contains(compiler.name()) {
                return Err(format!("the agent's reason {reason:?} does not name {}", compiler.name()).into());
            }
        }
        self.out.say("The agent prints the reason that the shim gives:")?;
        Ok(self
            .out
            .event(&format!("{status} {}", reason.replacen(": ", ":\n       ", 1).replace("; ", ";\n       ")))?)
    }

    /// Compares what the servers have in their own logs with what was shown, and ends with the verdict.
    fn conclude(mut self) -> Result<()> {
        let mut logged = 0;
        for server in self.lab.servers() {
            let seen = server.seen();
            logged += seen.len();
            let own = |certname: &Option<String>| match certname {
                Some(certname) => certname == CERTNAME,
                None => server.role() == "ca",
            };
            if !seen.iter().all(|request| own(&request.caller.certname)) {
                return Err(format!("{} has a request in its log that is not of {CERTNAME}", server.name()).into());
            }
        }
        if logged != self.answered {
            return Err(format!("the servers have logged {logged} requests; the agent made {}", self.answered).into());
        }
        self.out.say("")?;
        self.out
            .verdict(&format!("All held: {logged} requests, each answered by a server of its role, and no server"))?;
        self.out.verdict(&format!("has seen any certificate but that of {CERTNAME}."))?;
        self.out.say("Next: README.md, for a real host in three steps.")?;
        Ok(())
    }

    // === the connections of a run ===

    async fn node(&mut self, agent: &Agent) -> Result<Answer> {
        let step = Step::get("node", "compile", &format!("/puppet/v3/node/{CERTNAME}"));
        Ok(self.visit(agent, "puppet", Some(CERTNAME), &[step]).await?.remove(0))
    }

    async fn plugins(&mut self, agent: &Agent) -> Result<()> {
        let list = Step::get("plugins", "files", "/puppet/v3/file_metadatas/plugins");
        let content = Step::get("plugin content", "files", "/puppet/v3/file_content/plugins/facter/rack.rb?bytes=4096");
        self.visit(agent, "puppetfiles", Some(CERTNAME), &[list, content]).await.map(drop)
    }

    async fn catalog(&mut self, agent: &Agent) -> Result<Answer> {
        let facts = vec![b'f'; 30_000];
        let path = format!("/puppet/v3/catalog/{CERTNAME}?bytes=60000");
        let step = Step { name: "catalog", role: "compile", method: "POST", path, body: &facts };
        Ok(self.visit(agent, "puppet", Some(CERTNAME), &[step]).await?.remove(0))
    }

    async fn file_and_report(&mut self, agent: &Agent) -> Result<()> {
        let path = "/puppet/v3/file_content/modules/motd/motd?bytes=2000000";
        self.visit(agent, "puppetfiles", Some(CERTNAME), &[Step::get("file content", "files", path)]).await?;
        let report = vec![b'r'; 90_000];
        let path = format!("/puppet/v3/report/{CERTNAME}");
        let step = Step { name: "report", role: "report", method: "PUT", path, body: &report };
        self.visit(agent, "puppetreport", Some(CERTNAME), &[step]).await.map(drop)
    }

    // === a connection ===

    async fn visit(
        &mut self,
        agent: &Agent,
        host: &str,
        certname: Option<&str>,
        steps: &[Step<'_>],
    ) -> Result<Vec<Answer>> {
        self.visit_at(agent, host, PORT, certname, steps).await
    }

    /// Makes one connection with its requests, checks and shows each answer, and then the shim's own line about it.
    async fn visit_at(
        &mut self,
        agent: &Agent,
        host: &str,
        port: u16,
        certname: Option<&str>,
        steps: &[Step<'_>],
    ) -> Result<Vec<Answer>> {
        let asked = format!("{host}:{port}");
        let mut since = Instant::now();
        let mut connection = agent.connect(host, port).await.map_err(|e| format!("{asked}: {e}"))?;
        let mut answers = Vec::new();
        for step in steps {
            let answer = request(&mut connection, step).await.map_err(|e| format!("{asked}, {}: {e}", step.name))?;
            let took = since.elapsed().as_secs_f64() * 1000.0;
            since = Instant::now();
            check(step, certname, &answer)?;
            let witness = &answer.witness;
            let saw = witness.caller.certname.as_deref().unwrap_or("none");
            self.out.row(&[&step.name, &step.role, &asked, &short(&witness.server), &saw, &format!("{took:.1}")])?;
            self.answered += 1;
            answers.push(answer);
        }
        connection.close().await;
        self.show_log(&answers).await?;
        Ok(answers)
    }

    /// Shows the shim's line about the connection just closed. It must be one, and name the server that answered.
    async fn show_log(&mut self, answers: &[Answer]) -> Result<()> {
        let lines = self.lab.journal.take(1).await;
        let [line] = lines.as_slice() else { return Err(format!("one connection, {} log lines", lines.len()).into()) };
        let server = line.get("server").unwrap_or_default();
        for Answer { witness, .. } in answers {
            if !server.starts_with(&witness.server) || line.get("role") != Some(&witness.role) {
                return Err(
                    format!("{} ({}) answered; the shim's log says: {line}", witness.server, witness.role).into()
                );
            }
        }
        let fields = FIELDS.iter().filter_map(|field| line.get(field).map(|value| format!("{field}={value}")));
        self.out.aside(&fields.collect::<Vec<_>>().join(" "))?;
        // Of interest where there was more than one.
        match line.get("tried").map(|tried| tried.split("; ").collect::<Vec<_>>()) {
            Some(tried) if tried.len() > 1 => {
                tried.iter().try_for_each(|one| Ok(self.out.aside(&format!("  tried {one}"))?))
            }
            _ => Ok(()),
        }
    }

    fn compiler(&mut self, name: &str) -> Result<&mut Server> {
        [&mut self.lab.compile1, &mut self.lab.compile2]
            .into_iter()
            .find(|server| server.name() == name)
            .ok_or_else(|| format!("{name} is no compiler").into())
    }
}

async fn request(connection: &mut Connection, step: &Step<'_>) -> Result<Answer, Failure> {
    connection.request(step.method, &step.path, step.body).await
}

/// Whether the right one has answered, and has seen the right one.
fn check(step: &Step<'_>, certname: Option<&str>, answer: &Answer) -> Result<()> {
    let Step { name, role, .. } = step;
    let witness = &answer.witness;
    if answer.response.status != 200 {
        return Err(format!("{name}: {} answered {}", witness.server, answer.response.status).into());
    }
    if witness.role != *role {
        return Err(format!(
            "{name} is for {role}, and {} answered, which is there for {}",
            witness.server, witness.role
        )
        .into());
    }
    let saw = witness.caller.certname.as_deref();
    if saw != certname {
        return Err(format!("{name}: {} should have seen {certname:?}, and saw {saw:?}", witness.server).into());
    }
    Ok(())
}

fn short(name: &str) -> &str {
    name.strip_suffix(DOMAIN).and_then(|name| name.strip_suffix('.')).unwrap_or(name)
}
