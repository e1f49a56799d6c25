"""`puppet-shim setup --mode alias` has systemd listen on the servers' port, and the removal of the package takes it all back.

The service runs meanwhile, with a tunnel open that goes on. The files are again what they were to the byte, and where somebody
has written into one since, what is his stays.
"""

import hashlib

from bench.machine import SOCKET
from bench.scenario import CONFIG, demand
from lab.evidence import Unmet

PUPPET_CONF = "/etc/puppet/puppet.conf"
DROP_IN = "/etc/systemd/system/puppet-shim.socket.d"
RECORD = "/var/lib/puppet-shim-setup"
PORT = ("127.0.0.1", 8140)

# There is no DNS here, and without its word nothing would be set up.
NO_RECORDS = "".join(f"[role.{role}]\nsrv = false\n" for role in ("ca", "files", "report"))


def run(bench):
    machine = bench.installed()
    machine.write(CONFIG, machine.path(CONFIG).read_text() + NO_RECORDS)
    machine.write(PUPPET_CONF, "# by hand\n[main]\nserver = puppet.example.test\n\n[agent]\nruninterval = 1800\n")
    before = sums(machine)
    with bench.tunnel() as tunnel:
        said = apply(machine, "alias")
        demand("ListenStream=127.0.0.1:8140" in said and "systemctl restart puppet-shim.socket" in said, said)
        tunnel.exchange()
    listening = machine.property(SOCKET, "Listen")
    for address in ("127.0.0.1:8139", "[::1]:8139", "127.0.0.1:8140", "[::1]:8140"):
        demand(address in listening, f"the socket listens on {listening}, without {address}")
    bench.works(address=PORT)
    hosts = machine.run("getent", "ahostsv4", "puppet.example.test")
    demand("127.0.0.1" in hosts, f"the name leads to {hosts}")
    after = sums(machine)
    demand("nothing to do" in apply(machine, "alias"), "the second time finds something to do")
    demand(sums(machine) == after, "the second time changes something")

    said = machine.run("apt-get", "remove", "--yes", "puppet-shim", error=Unmet)
    demand(sums(machine) == before, f"the removal left something changed\n{said}")
    gone(machine)

    machine.install(bench.package.deb)
    apply(machine, "proxy")
    machine.run("puppet", "config", "set", "runinterval", "3600", "--section", "agent")
    machine.run("apt-get", "purge", "--yes", "puppet-shim", error=Unmet)
    text = machine.path(PUPPET_CONF).read_text()
    demand(text == "# by hand\n[main]\nserver = puppet.example.test\n\n[agent]\nruninterval = 3600\n", f"puppet.conf is\n{text}")
    gone(machine)


def apply(machine, mode):
    return machine.run("puppet-shim", "setup", "--mode", mode, "--apply", error=Unmet)


def sums(machine):
    paths = (PUPPET_CONF, "/etc/hosts", CONFIG)
    return {path: hashlib.sha256(machine.path(path).read_bytes()).hexdigest() for path in paths}


def gone(machine):
    for path in (DROP_IN, RECORD):
        demand(not machine.path(path).exists(), f"{path} is still there")
