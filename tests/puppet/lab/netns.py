"""Hosts: network namespaces with a name and addresses of their own, joined by one bridge.

The bridge lives in a namespace too and leads nowhere else, so no packet of the lab can meet the machine's
network, and two labs can run at once.
"""

import contextlib
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from lab import plan
from lab.namespace import Namespace
from lab.process import run

ETC = Path("/etc/netns")
NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\n"


class Network:
    def __init__(self):
        self.prefix = f"puppetlab-{os.getpid()}"
        self.switch = f"{self.prefix}-switch"
        self.hosts = {}

    def up(self):
        run(["ip", "netns", "add", self.switch])
        run(["ip", "-n", self.switch, "link", "add", "bridge", "type", "bridge"])
        run(["ip", "-n", self.switch, "link", "set", "bridge", "up"])
        for name in plan.HOSTS:
            self.hosts[name] = Host(name, f"{self.prefix}-{name}", self)
            self.hosts[name].up()
        run(["ip", "-n", self.hosts["agent"].namespace.name, "address", "add",
             f"{plan.SECOND_ADDRESS}/24", "dev", "eth0"])

    def down(self):
        for namespace in sorted(Path("/run/netns").glob(f"{self.prefix}-*")):
            run(["ip", "netns", "delete", namespace.name])
        for directory in ETC.glob(f"{self.prefix}-*"):
            shutil.rmtree(directory)
        # Ours to remove unless something else lives in it.
        with contextlib.suppress(OSError):
            ETC.rmdir()


class Host:
    def __init__(self, name, namespace, network):
        self.name = name
        self.namespace = Namespace(namespace)
        self.network = network
        self.etc = ETC / namespace

    def up(self):
        switch = self.network.switch
        run(["ip", "netns", "add", self.namespace.name])
        run(["ip", "link", "add", self.name, "netns", switch, "type", "veth",
             "peer", "name", "eth0", "netns", self.namespace.name])
        run(["ip", "-n", switch, "link", "set", self.name, "master", "bridge", "up"])
        for address in (f"{plan.ipv4(self.name)}/24", f"{plan.ipv6(self.name)}/64"):
            run(["ip", "-n", self.namespace.name, "address", "add", address, "dev", "eth0", "nodad"])
        for link in ("lo", "eth0"):
            run(["ip", "-n", self.namespace.name, "link", "set", link, "up"])
        # `ip netns exec` lays these over the machine's own files.
        self.etc.mkdir(parents=True)
        (self.etc / "nsswitch.conf").write_text(NSSWITCH)
        (self.etc / "resolv.conf").write_text(f"search {plan.DOMAIN}\nnameserver {plan.ipv4('dns')}\n")
        self.alias()

    def alias(self, *names):
        """Point these names, and no others, at loopback in the hosts file."""
        lines = ["127.0.0.1 localhost", "::1 localhost", f"{plan.ipv4(self.name)} {plan.fqdn(self.name)} {self.name}"]
        if names:
            lines += [f"127.0.0.1 {' '.join(names)}", f"::1 {' '.join(names)}"]
        (self.etc / "hosts").write_text("\n".join(lines) + "\n")

    @contextmanager
    def unplugged(self):
        """Inside it the host's cable is out, and nobody remembers where it was."""
        self.plug("down")
        try:
            yield
        finally:
            self.plug("up")

    def plug(self, state):
        run(["ip", "-n", self.network.switch, "link", "set", self.name, state])
        for host in self.network.hosts.values():
            run(["ip", "-n", host.namespace.name, "neighbour", "flush", "dev", "eth0"])

    @contextmanager
    def dropping(self, port):
        """Inside it the host drops every packet that comes in for this TCP port."""
        chain = f"type filter hook input priority filter; tcp dport {port} drop;"
        run(self.argv("nft", f"table inet lab {{ chain input {{ {chain} }}; }}"))
        try:
            yield
        finally:
            run(self.argv("nft", "delete table inet lab"))

    def argv(self, *command, user=None):
        """The command line that runs `command` on this host. It is execs all the way: the pid stays the same."""
        if user:
            command = ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *command)
        named = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name)
        return ["ip", "netns", "exec", self.namespace.name, *named, *command]
