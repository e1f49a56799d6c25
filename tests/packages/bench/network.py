"""Two network namespaces and a cable: the machine is in one, its servers are in the other. It leads nowhere else."""

import os

from lab.namespace import Namespace
from lab.process import run

MACHINE = "10.9.8.1"
SERVERS = "10.9.8.2"


class Network:
    def __init__(self):
        prefix = f"puppetbench-{os.getpid()}"
        self.machine = Namespace(f"{prefix}-machine")
        self.servers = Namespace(f"{prefix}-servers")

    def up(self, ipv6=True):
        for namespace in (self.machine, self.servers):
            run(["ip", "netns", "add", namespace.name])
            run(["ip", "-n", namespace.name, "link", "set", "lo", "up"])
        run(["ip", "link", "add", "eth0", "netns", self.machine.name, "type", "veth",
             "peer", "name", "eth0", "netns", self.servers.name])
        for namespace, address in ((self.machine, MACHINE), (self.servers, SERVERS)):
            run(["ip", "-n", namespace.name, "address", "add", f"{address}/24", "dev", "eth0"])
            run(["ip", "-n", namespace.name, "link", "set", "eth0", "up"])
        if not ipv6:
            run(["ip", "netns", "exec", self.machine.name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"])

    def down(self):
        for namespace in (self.machine, self.servers):
            if namespace.path.exists():
                run(["ip", "netns", "delete", namespace.name])
