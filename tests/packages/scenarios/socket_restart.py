"""The socket is restarted, for another address, while the service runs: both come back, and a tunnel goes on.

systemd refuses to start a socket whose service runs, so the service goes along. Who stops the socket stops the service too.
"""

from bench.machine import SERVICE, SOCKET
from bench.scenario import demand
from lab.evidence import Unmet
from lab.process import wait_until

ANOTHER = ("127.0.0.1", 9139)


def run(bench):
    machine = bench.installed()
    with bench.tunnel() as connection, bench.traffic(connection) as traffic:
        first = machine.main_pid()
        wait_until(lambda: traffic.rounds > 3, 10, "bytes", Unmet)
        machine.write(f"/etc/systemd/system/{SOCKET}.d/listen.conf", "[Socket]\nListenStream=127.0.0.1:9139\n")
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart", SOCKET, error=Unmet)
        bench.listens()
        bench.works()
        bench.works(address=ANOTHER)
        demand(machine.main_pid() not in (0, first), "the process is the one of before")
        at_restart = traffic.rounds
        wait_until(lambda: traffic.rounds > at_restart + 3 or traffic.error, 10, "bytes after the restart", Unmet)
    machine.said("carried", "restarts=1")

    machine.run("systemctl", "stop", SOCKET)
    for unit in (SOCKET, SERVICE):
        state = machine.property(unit, "ActiveState")
        demand(state == "inactive", f"{unit} is {state} after a stop of the socket")
    machine.run("systemctl", "start", SOCKET)
    bench.works()
