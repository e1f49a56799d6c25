"""The .deb is installed: the port listens, and the first connection starts the process.

Between that and the installation the host carries no process of ours. After a reboot it is the same.
"""

from bench.machine import SERVICE, SOCKET
from bench.scenario import demand


def run(bench):
    machine = bench.boot()
    machine.install(bench.package.deb)
    bench.listens()
    demand(machine.property(SOCKET, "UnitFileState") == "enabled", "the socket is not enabled")
    demand(machine.main_pid() == 0, "the service runs though nobody has connected")

    said = machine.run("puppet-shim", "check", "--offline")
    demand("puppet-shim.toml: ok" in said, f"the file as installed: {said}")

    bench.configure()
    bench.works()
    demand(machine.active(SERVICE), "a connection has not started the service")
    listening = machine.property(SOCKET, "Listen")
    for address in ("127.0.0.1:8139", "[::1]:8139"):
        demand(address in listening, f"the socket listens on {listening}, without {address}")
    with bench.tunnel(address=("::1", 8139)) as connection:
        connection.exchange()

    machine.reboot()
    bench.listens()
    demand(machine.main_pid() == 0, "the service runs after a reboot though nobody has connected")
    bench.works()
