"""The service is enabled, so as to run always: it has its socket, after a reboot too. When it is disabled again, the socket is not.

Otherwise nobody would listen after the next boot, and Puppet could not mend that.
"""

from bench.machine import SERVICE, SOCKET
from bench.scenario import demand


def run(bench):
    machine = bench.installed()
    machine.run("systemctl", "enable", "--now", SERVICE)
    machine.run("systemctl", "disable", "--now", SOCKET)
    machine.reboot()
    # By the service's Sockets= alone.
    demand(machine.active(SERVICE), "the service is enabled, and does not run after a reboot")
    listening(bench)
    bench.works()

    machine.run("systemctl", "enable", SOCKET)
    machine.run("systemctl", "disable", "--now", SERVICE)
    demand(machine.property(SOCKET, "UnitFileState") == "enabled", "who disables the service disables the socket")
    machine.reboot()
    demand(machine.main_pid() == 0, "the service is disabled, and runs after a reboot")
    listening(bench)
    bench.works()


def listening(bench):
    bench.listens()
    told = bench.machine.run("puppet-shim", "status", check=False)
    demand("127.0.0.1:8139 (systemd's)" in told or "systemd holds the sockets" in told, f"the socket is not systemd's: {told}")
