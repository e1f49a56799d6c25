"""The package is upgraded while a tunnel is open: not a byte is lost, and the port never stops listening.

The agent upgrades the package in the middle of its own run, through the very tunnel. After that a configuration that the
administrator has changed is as it was.
"""

from bench.machine import SERVICE
from bench.scenario import CONFIG, demand
from lab.evidence import Unmet
from lab.process import wait_until


def run(bench):
    machine = bench.installed()
    before = machine.path(CONFIG).read_text()
    with bench.tunnel() as connection, bench.traffic(connection) as traffic, bench.knocking() as knocking:
        first = machine.main_pid()
        wait_until(lambda: traffic.rounds > 3, 10, "bytes", Unmet)
        said = machine.install(bench.later.deb)
        demand(machine.main_pid() not in (0, first), f"the upgrade has not restarted the process\n{said}")
        at_upgrade = traffic.rounds
        wait_until(lambda: traffic.rounds > at_upgrade + 3 or traffic.error, 10, "bytes after the upgrade", Unmet)
    demand(machine.path(CONFIG).read_text() == before, "the upgrade has changed the configuration")
    demand(machine.property(SERVICE, "NRestarts") == "0", "the restart counted as a failure")
    machine.said("carried", "restarts=1")
    bench.notes.append(f"{traffic.rounds} times 100 kB there and back, {knocking.count} connections beside it")
