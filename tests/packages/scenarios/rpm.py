"""The .rpm, with real rpm: it is installed, verified, upgraded under a tunnel, and erased without a trace."""

from bench.machine import SERVICE, SOCKET
from bench.scenario import CONFIG, demand
from lab.evidence import Unmet
from lab.process import wait_until
from scenarios.ca_file import COPIER, WATCH

# rpm's own books, and what other programs keep.
OTHERS = ("/var/lib/rpm/", "/root/", "/var/log/", "/var/lib/systemd/", "/var/cache/", "/tmp/", "/var/tmp/", "/etc/.pwd.lock")


def run(bench):
    machine = bench.laid()
    machine.lay_for_rpm()
    machine.boot()
    machine.run("rpm", "--initdb")
    before = set(machine.run("find", "/", "-xdev").splitlines())
    said = machine.install(bench.package.rpm)
    demand(not said.strip(), f"the installation says: {said}")
    bench.listens()
    demand(machine.property(SOCKET, "UnitFileState") == "enabled", "the socket is not enabled")
    verify = machine.run("rpm", "--verify", "--nodeps", "puppet-shim", check=False)
    demand(not verify, f"rpm -V: {verify}")

    bench.configure()
    changed = machine.path(CONFIG).read_text()
    with bench.tunnel() as connection, bench.traffic(connection) as traffic, bench.knocking():
        first = machine.main_pid()
        wait_until(lambda: traffic.rounds > 3, 10, "bytes", Unmet)
        machine.install(bench.later.rpm)
        demand(machine.main_pid() not in (0, first), "the upgrade has not restarted the process")
        at_upgrade = traffic.rounds
        wait_until(lambda: traffic.rounds > at_upgrade + 3 or traffic.error, 10, "bytes after the upgrade", Unmet)
    demand(machine.path(CONFIG).read_text() == changed, "the upgrade has changed the configuration")
    bench.listens()

    machine.run("rpm", "--erase", "puppet-shim", error=Unmet)
    for unit in (SOCKET, SERVICE, WATCH, COPIER):
        demand(machine.property(unit, "ActiveState") == "inactive", f"{unit} runs after the removal")
    after = set(machine.run("find", "/", "-xdev").splitlines())
    left = {path for path in after - before if not path.startswith(OTHERS)}
    # What an administrator has changed is kept, by rpm's own custom, and the directory with it.
    demand(left == {"/etc/puppet-shim", f"{CONFIG}.rpmsave"}, f"after the removal there are: {' '.join(sorted(left))}")
