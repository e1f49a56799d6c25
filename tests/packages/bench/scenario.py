"""A scenario's file and the bench as it sees it.

A scenario is a module under scenarios/: its story is the docstring, `run(bench)` plays it. IPV6 = False there: its
machine has no IPv6.
"""

import importlib
import socket
from contextlib import ExitStack
from pathlib import Path

from bench import network, streams, tunnel
from bench.agent import Agent
from bench.image import image
from bench.machine import SERVICE, SOCKET, Machine
from bench.network import Network
from bench.server import PORT, Server
from lab import plan
from lab.evidence import Traffic, Unmet
from lab.process import run, wait_until

DIRECTORY = Path(__file__).parent.parent / "scenarios"
CONFIG = "/etc/puppet-shim/puppet-shim.toml"

# The one server, so that no DNS is needed. It has no certificate to look at either.
SETTINGS = f"""
[role.compile]
srv = false
servers = ["{network.SERVERS}:{PORT}"]
[certificates]
check = false
"""


class Scenario:
    def __init__(self, name):
        module = importlib.import_module(f"scenarios.{name}")
        self.name = name
        self.title = module.__doc__.strip().splitlines()[0]
        self.play = module.run
        self.ipv6 = getattr(module, "IPV6", True)


def scenarios():
    return [Scenario(path.stem) for path in sorted(DIRECTORY.glob("*.py"))]


class Bench:
    """What one scenario has: the packages, a machine when it asks for one, and a server; or the lab's."""

    def __init__(self, built, lab, directory, ipv6):
        # The packages; `later` has the same contents and a higher revision.
        self.package, self.later = built
        # Brings the lab's network, DNS and, unless told otherwise, servers up, for all scenarios that ask for them.
        self.lab = lab
        self.directory = directory
        self.directory.mkdir(parents=True)
        self.ipv6 = ipv6
        self.network = Network()
        self.machine = None
        self.server = None
        self.agents = []
        self.everything = None
        # What it found out, to be printed below its verdict.
        self.notes = []
        self.undo = ExitStack()

    def laid(self):
        """A machine that has never seen the package and is not booted, and a server that it will reach."""
        self.undo.callback(self.network.down)
        self.network.up(self.ipv6)
        self.server = Server(self.network.servers, network.SERVERS)
        self.undo.callback(self.server.close)
        self.machine = Machine(image(), self.directory / "machine", self.network.machine)
        self.undo.callback(self.machine.down)
        self.machine.lay()
        return self.machine

    def boot(self):
        """The same, booted."""
        self.laid().boot()
        return self.machine

    def at_lab(self, domain, servers=True):
        """A machine with the .deb on it, in the lab's network, as a host of this domain."""
        site = self.lab(servers)
        self.everything = Traffic(site.servers.values())
        self.machine = Machine(image(), self.directory / "machine", site.network.hosts["agent"].namespace)
        self.undo.callback(self.machine.down)
        self.machine.lay()
        self.machine.settle(f"agent.{domain}", plan.ipv4("agent"), plan.ipv4("dns"))
        self.machine.boot()
        self.machine.install(self.package.deb)
        return self.machine

    def server_at_lab(self, host):
        """The bench's own server on a host of the lab's."""
        self.server = Server(self.lab(servers=False).network.hosts[host].namespace, plan.ipv4(host))
        self.undo.callback(self.server.close)

    def agent(self, name, home=None, **settings):
        """An agent in the machine, which is at the lab, with a certificate that it got through the shim."""
        agent = Agent(self.machine, name, self.directory, home)
        self.undo.callback(agent.close)
        self.agents.append(agent)
        agent.enrol(**settings)
        return agent

    def traffic_at_lab(self):
        """What reaches the lab's servers from now on."""
        return Traffic(self.lab().servers.values())

    def unpacked(self, kind):
        """The files of the package of this kind."""
        directory = self.directory / kind
        if not directory.exists():
            directory.mkdir()
            if kind == "deb":
                run(["dpkg-deb", "--extract", str(self.package.deb), str(directory)])
            else:
                run(["sh", "-c", f"cd {directory} && rpm2cpio {self.package.rpm} | cpio --quiet -id"])
        return directory

    def installed(self, **settings):
        """A machine with the .deb on it, and the one server in its configuration."""
        machine = self.boot()
        machine.install(self.package.deb)
        self.configure(**settings)
        return machine

    def configure(self, **settings):
        """The packaged file with these settings in it, and with the server; no process has read it yet."""
        packaged = self.machine.path(CONFIG).read_text()
        lines = [line for line in packaged.splitlines() if line.partition(" ")[0] not in settings]
        lines += [f"{key} = {value}" for key, value in settings.items()]
        self.machine.write(CONFIG, "\n".join(lines) + SETTINGS)

    def tunnel(self, **where):
        """A connection through the shim, in which bytes go both ways."""
        return tunnel.Tunnel(self.machine.namespace, **where)

    def traffic(self, through):
        return tunnel.Traffic(through)

    def streams(self, through):
        return streams.Streams(through)

    def crowd(self, clients):
        return tunnel.Crowd(self.machine.namespace, clients)

    def knocking(self):
        return tunnel.Knocking(self.machine.namespace)

    def works(self, **where):
        """A connection made now reaches the server."""
        with self.tunnel(**where) as connection:
            connection.exchange()

    def idle(self, seconds=15):
        """The process leaves by itself; systemd goes on listening."""
        wait_until(lambda: self.machine.main_pid() == 0, seconds, "the process leaves when it is idle", Unmet)
        wait_until(lambda: self.machine.property(SERVICE, "ActiveState") == "inactive", 5, "the service is inactive", Unmet)
        self.listens()

    def listens_at(self, address):
        """Whether the machine takes a connection there."""
        with self.machine.namespace.entered(), socket.socket() as probe:
            probe.settimeout(tunnel.TIMEOUT)
            return probe.connect_ex(address) == 0

    def listens(self):
        demand(self.machine.active(SOCKET), f"{SOCKET} is not active")

    def close(self):
        self.undo.close()

    def evidence(self):
        parts = [part for agent in self.agents for part in agent.evidence()]
        if self.machine:
            parts.append(self.machine.evidence())
        if self.everything:
            parts.append(self.everything.text())
        return "\n".join(parts)


def demand(condition, otherwise):
    if not condition:
        raise Unmet(otherwise)
