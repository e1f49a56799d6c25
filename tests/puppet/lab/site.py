"""The whole lab: brought up in order, taken down whatever happens."""

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

from lab import plan
from lab.dns import Dns
from lab.netns import Network
from lab.server import CaServer, Server
from lab.shim import MODULE
from lab.template import CONF
from lab.web import Web


# Seconds: a server's own default.
IDLE = 30


class Site:
    """A context: inside it the network, DNS and the web server are up; `run_servers` starts the Puppet servers."""

    def __init__(self, servers=tuple(plan.SERVERS), environments=None, idle=IDLE):
        """With these servers, the CA among them, and a directory with environments of Puppet's beside the lab's own.

        `idle`: seconds until a server closes a connection on which nothing happens.
        """
        self.names = servers
        self.environments = environments
        self.idle = idle
        self.directory = None
        self.network = Network()
        self.servers = {}
        self.dns = None
        self.web = None
        # Seconds of a run in which nothing is at fault, once they are known.
        self.healthy = None
        # And for how long each of its connections to a compiler waited.
        self.waits = []
        self.undo = ExitStack()

    def __enter__(self):
        with ExitStack() as undo:
            self.up(undo)
            self.undo = undo.pop_all()
        return self

    def __exit__(self, *_):
        self.undo.close()

    def up(self, undo):
        """Build everything in order, each part after the step that would undo it is noted."""
        self.directory = Path(tempfile.mkdtemp(prefix="puppet-lab-"))
        undo.callback(shutil.rmtree, self.directory)
        # The daemons drop to users of their own and have to pass through.
        self.directory.chmod(0o711)
        undo.callback(self.network.down)
        self.network.up()
        self.set_up_servers(undo)
        self.dns = Dns(self.network.hosts["dns"], self.directory / "dns")
        self.web = Web(self.network.hosts["web"], self.directory / "web")
        for service in (self.dns, self.web):
            undo.callback(service.down)
            service.up()

    def set_up_servers(self, undo):
        code = self.directory / "code"
        if self.environments:
            shutil.copytree(self.environments, code / "environments")
        environment = code / "environments" / "production"
        shutil.copytree(CONF / "code", environment)
        shutil.copytree(MODULE, environment / "modules" / "puppet_shim")
        for name in self.names:
            kind = CaServer if name == "ca" else Server
            server = kind(self.network.hosts[name], self.directory / name, code, self.idle)
            undo.callback(server.stop)
            server.configure()
            self.servers[name] = server
        self.ca.set_up([server for server in self.servers.values() if server is not self.ca])

    @property
    def ca(self):
        return self.servers["ca"]

    def run_servers(self, stopped=()):
        """Have every server ready but these, and these stopped."""
        started = []
        for name, server in self.servers.items():
            if name in stopped:
                server.stop()
            elif not server.running():
                server.start()
                started.append(server)
        for server in started:
            server.wait_ready()
