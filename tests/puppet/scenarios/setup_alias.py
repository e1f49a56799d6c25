"""`puppet-shim setup --mode alias` sends an agent with a stock puppet.conf through the shim by the hosts file, and takes it
off again.

There is no systemd here to have the shim listen on the servers' port, so it is told by a signal. The hosts file is mounted
by itself, as in a container, and nothing can be renamed over it. Where the servers are found by their name alone, the hosts
file must not hide it.
"""

import signal

from lab import plan
from lab.evidence import Unmet
from lab.process import wait_until
from lab.setup import SetUp

FORWARD_TO = "ca"
NAMES = " ".join(f"{name}.{plan.DOMAIN}" for name in ("puppet", "puppetca", "puppetreport", "puppetfiles"))


def run(lab):
    agent = lab.new_agent("setup-by-alias")
    setup = SetUp(lab, agent)
    with lab.shim(config=setup.configuration) as shim:
        def use():
            shim.process.signal(signal.SIGHUP)
            wait_until(lambda: shim.process.listens(8140), 5, "the shim listens on the servers' port", Unmet)
            traffic = lab.traffic()
            agent.run(None).succeeded()
            traffic.went(agent, ca="ca", compile="compile1", plugins="files", report="compile2")

        def unused():
            shim.process.signal(signal.SIGHUP)
            wait_until(lambda: not shim.process.listens(8140), 5, "the shim listens there no longer", Unmet)

        setup.comes_and_goes("alias", shim, use, unused, says=[
            f"+127.0.0.1 {NAMES}",
            f"+::1 {NAMES}",
            '+listen = ["127.0.0.1:8139", "[::1]:8139", "127.0.0.1:8140", "[::1]:8140"]',
            f"+ca_server = puppetca.{plan.DOMAIN}",
        ])
        setup.name("puppet.plain.test")
        setup.refused("--mode", "alias", says="alias mode needs SRV records")
