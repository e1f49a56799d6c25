"""`puppet-shim setup --mode alias` sends an agent with a stock puppet.conf through the shim by the hosts file, and takes it
off again.

There is no systemd here to have the shim listen on the servers' port, so it is told by a signal. The hosts file is mounted
by itself, as in a container, and nothing can be renamed over it. Where the servers are found by their name alone, the hosts
file must not hide it.
"""

from lab import plan
from lab.setup import SetUp

FORWARD_TO = "ca"
NAMES = " ".join(["puppet", *(f"{name}.{plan.DOMAIN}" for name in ("puppetca", "puppetreport", "puppetfiles"))])


def run(lab):
    setup = SetUp(lab, lab.new_agent("setup-by-alias"))
    with lab.shim(config=setup.configuration) as shim:
        setup.comes_and_goes("alias", shim, port=8140, says=[
            f"+127.0.0.1 {NAMES}",
            f"+::1 {NAMES}",
            '+listen = ["127.0.0.1:8139", "[::1]:8139", "127.0.0.1:8140", "[::1]:8140"]',
            f"+ca_server = puppetca.{plan.DOMAIN}",
        ])
        setup.name("puppet.plain.test")
        setup.refused("--mode", "alias", says="alias mode needs SRV records")
