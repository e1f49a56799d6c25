"""A run upgrades the package and restarts the service, and goes on through it: nothing fails, and the report is delivered.

The connection by which the catalog came lives through both restarts, that of the package's own script and that of the manifest,
and brings the files after them. So does that of another agent on the same host, which waits for a catalog meanwhile that the
server does not have before the upgrade is over.
"""

from bench.repository import Repository
from bench.scenario import demand
from lab import plan
from lab.evidence import PATIENCE, Unmet
from lab.process import wait_until

FILES = ("one", "two", "three")

# Seconds: the agent keeps its connection over an installation that takes long, too, and goes on with it. By default it would be four. The
# servers of the bench keep theirs for longer.
KEPT = 1000


def run(bench):
    machine = bench.at_lab("machine.test")
    agent = bench.agent("upgraded.machine.test", http_keepalive_timeout=KEPT)
    # Asks another server than the first agent does, by its own name: a server of the lab compiles one catalog at a time.
    patient = bench.agent("patient.machine.test", home="/srv/patient", server=plan.fqdn("ca"))
    Repository(machine).offer(bench.later.deb)
    demand(version(machine).endswith("-1"), f"installed is {version(machine)}")
    traffic = bench.traffic_at_lab()
    waiting = patient.start("patient")
    wait_until(lambda: f"/catalog/{patient.certname}" in traffic.text(), 300, "the server begins to compile", Unmet)
    process = machine.main_pid()

    outcome = agent.run("upgrade", timeout=500)
    demand(outcome.code == 2, f"the run that upgrades the package: exit {outcome.code}, and not 2")
    demand(version(machine).endswith("-2"), f"installed is {version(machine)} after the run")
    demand(machine.main_pid() not in (0, process), "the process is the one of before")
    for name in FILES:
        served_by = machine.path(f"/srv/{name}").read_text().strip()
        demand(served_by == "compile1", f"/srv/{name} holds {served_by!r}")
    reported(bench, traffic, agent, "changed")
    machine.said("carried", "name=puppet.machine.test", "restarts=2")
    tunnels = [line for line in machine.log().splitlines() if "carried" in line and "name=puppet.machine.test" in line]
    demand(len(tunnels) == 1, f"the files did not come by the catalog's connection: {tunnels}")
    demand(waiting.process.running(), "the other agent has not waited for so long")

    (bench.lab().servers["ca"].directory / "var" / "upgraded").touch()
    waited = waiting.outcome(600).succeeded().printed("compiled by ca.example.test after the upgrade")
    reported(bench, traffic, patient, "changed")
    machine.said("carried", "name=ca.example.test", "restarts=2")
    bench.notes.append(f"the run took {outcome.seconds:.1f} s, the other one {waited.seconds:.1f} s")


def version(machine):
    return machine.run("dpkg-query", "--show", "--showformat=${Version}", "puppet-shim")


def reported(bench, traffic, agent, status):
    """The server has the agent's report, and it is of a run with that result."""
    def answers():
        return [request.status for request in traffic.requests() if (request.kind, request.certname) == ("report", agent.certname)]
    wait_until(answers, PATIENCE, f"a report of {agent.certname}", Unmet)
    demand(answers() == [200], f"the report of {agent.certname} was answered {answers()}")
    stored = list((bench.lab().servers["compile1"].directory / "var" / "reports" / agent.certname).glob("*.yaml"))
    found = [line for path in stored for line in path.read_text().splitlines() if line.startswith("status: ")]
    demand(found == [f"status: {status}"], f"the report of {agent.certname} says {found}")
