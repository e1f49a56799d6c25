"""The Puppet module, with its package and its units: put in place, changed, upgraded, and taken away, by the machine's own puppet.

Whatever it changes, an open tunnel goes on, and a second run finds all as it should be. What it takes away it takes whole.
"""

import json
import shutil

from bench import network
from bench.machine import SERVICE, SOCKET
from bench.module import CHANGED, FAILED, SAME, Module
from bench.scenario import CONFIG, demand
from bench.server import PORT
from lab.evidence import Unmet
from lab.process import LISTENING, sockets, wait_until
from scenarios.purge import OTHERS, everything

PUPPET_CONF = "/etc/puppet/puppet.conf"
STATUS = "/run/puppet-shim/status.socket"
AS_IT_WAS = "# by hand\n[main]\nserver = puppet.example.test\n\n[agent]\nruninterval = 1800\n"
ADDRESSES = ["127.0.0.1:8139", "[::1]:8139"]
ANOTHER = ("127.0.0.1", 9139)

# What a run of Puppet writes for itself.
PUPPETS = (*OTHERS, "/var/lib/puppet/", "/var/cache/puppet/", "/etc/puppet/", "/root/.rpmdb")


def run(bench):
    machine = bench.boot()
    for user in ("member", "stranger"):
        machine.run("useradd", "--no-create-home", user)
    machine.run("usermod", "--append", "--groups", "adm", "member")
    for package in (bench.package, bench.later):
        shutil.copy(package.deb, machine.path("/root"))
    machine.write(PUPPET_CONF, AS_IT_WAS)
    module = Module(machine, bench.directory)
    before = everything(machine)
    machine.run("touch", "/mark")

    wanted = {
        "package_source": f"/root/{bench.package.deb.name}",
        "mode": "proxy",
        "manage_puppet_conf": True,
        "roles": {"compile": {"srv": False, "servers": [f"{network.SERVERS}:{PORT}"]}},
        "certificates": {"check": False},
    }
    module.apply(wanted, CHANGED)
    module.apply(wanted, SAME)
    demand(version(machine).endswith("-1"), f"installed is {version(machine)}")
    listening(machine, ADDRESSES)
    demand(machine.property(SOCKET, "UnitFileState") == "enabled", "the socket is not enabled")
    demand(machine.main_pid() == 0, "the service runs though nobody has connected")
    demand("http_proxy_port = 8139" in machine.path(PUPPET_CONF).read_text(), "puppet.conf does not name it as the proxy")
    bench.works()

    wanted["status"] = {"group": "adm"}
    meanwhile(bench, lambda: module.apply(wanted, CHANGED))
    asked(machine)

    wanted["listen"] = [*ADDRESSES, "127.0.0.1:9139"]
    meanwhile(bench, lambda: module.apply(wanted, CHANGED))
    listening(machine, wanted["listen"])
    bench.works()
    bench.works(address=ANOTHER)

    refused(bench, module, wanted)

    del wanted["listen"], wanted["status"]
    meanwhile(bench, lambda: module.apply(wanted, CHANGED))
    module.apply(wanted, SAME)
    listening(machine, ADDRESSES)
    demand((ANOTHER[1], LISTENING) not in sockets(machine.pid), "somebody listens on a port that is no longer wanted")
    demand(owner(machine)[0] != "adm", f"the status socket is of {owner(machine)}, which is no longer wanted")

    wanted |= {"package_source": f"/root/{bench.later.deb.name}", "package_ensure": "latest"}
    with bench.knocking():
        meanwhile(bench, lambda: module.apply(wanted, CHANGED))
    module.apply(wanted, SAME)
    demand(version(machine).endswith("-2"), f"installed is {version(machine)} after the upgrade")

    # Somebody has stopped it.
    machine.run("systemctl", "stop", SOCKET)
    module.apply(wanted, CHANGED)
    listening(machine, ADDRESSES)
    bench.works()

    wanted["ensure"] = "absent"
    module.apply(wanted, CHANGED)
    module.apply(wanted, SAME)
    demand(machine.path(PUPPET_CONF).read_text() == AS_IT_WAS, f"puppet.conf is\n{machine.path(PUPPET_CONF).read_text()}")
    gone(machine, before)


def meanwhile(bench, change):
    """The change is made while bytes go through a tunnel; they arrive, before it and behind it, though another process brings them."""
    machine = bench.machine
    with bench.tunnel() as connection, bench.traffic(connection) as traffic:
        first = machine.main_pid()
        wait_until(lambda: traffic.rounds > 3 or traffic.error, 10, "bytes", Unmet)
        change()
        demand(machine.main_pid() not in (0, first), "the process is the one of before")
        rounds = traffic.rounds
        wait_until(lambda: traffic.rounds > rounds + 3 or traffic.error, 10, "bytes after the change", Unmet)
    demand(machine.property(SERVICE, "NRestarts") == "0", "a restart counted as a failure")


def refused(bench, module, wanted):
    """What the types let through, and puppet-shim does not, is put in no place: the file stays, the process too."""
    machine = bench.machine
    text, process = machine.path(CONFIG).read_text(), machine.main_pid()
    with bench.tunnel() as connection:
        said = module.apply(wanted | {"timeouts": {"connect": "3h"}}, FAILED)
        connection.exchange()
    demand('"3h" is too long' in said, f"the run does not say what is wrong\n{said}")
    demand(machine.path(CONFIG).read_text() == text, "the configuration is another")
    demand(machine.main_pid() == process, "the process is another")
    module.apply(wanted, SAME)


def listening(machine, addresses):
    """On these, and on no other."""
    wait_until(lambda: machine.active(SOCKET), 5, f"{SOCKET} is active", Unmet)
    found = [line.split()[0] for line in machine.property(SOCKET, "Listen").splitlines()]
    demand(sorted(found) == sorted(addresses), f"the socket listens on {found}, and should on {addresses}")


def asked(machine):
    """A member of the group may ask, without being root; nobody else may."""
    demand(owner(machine) == ["adm", "660"], f"the status socket is of {owner(machine)}")
    ask = ("puppet-shim", "status", "--json")
    told = json.loads(machine.run("runuser", "-u", "member", "--", *ask, error=Unmet))
    demand(told["process"]["pid"] == machine.main_pid(), f"a member is told of {told['process']}")
    said = machine.run("runuser", "-u", "stranger", "--", *ask, check=False)
    demand("may not ask" in said, f"a stranger is told: {said}")


def owner(machine):
    """The status socket's group and mode."""
    return machine.run("stat", "--format", "%G %a", STATUS, error=Unmet).split()


def version(machine):
    return machine.run("dpkg-query", "--show", "--showformat=${Version}", "puppet-shim")


def gone(machine, before):
    """Nothing is left but what Puppet keeps of its own runs."""
    for unit in (SOCKET, SERVICE):
        demand(machine.property(unit, "ActiveState") == "inactive", f"{unit} runs after the removal")
    demand(not machine.run("dpkg-query", "--list", "puppet-shim", check=False).splitlines()[-1].startswith(("ii", "rc")),
           "dpkg knows the package")
    left = [path for path in sorted(everything(machine) - before) if path != "/mark" and not path.startswith(PUPPETS)]
    demand(not left, f"after the removal there are: {' '.join(left)}")
    newer = machine.run("find", "/", "-xdev", "-newer", "/mark", "-type", "f").splitlines()
    left = [path for path in newer if not path.startswith(PUPPETS)]
    demand(not left, f"after the removal these are not what they were: {' '.join(left)}")
    demand((8139, LISTENING) not in sockets(machine.pid), "somebody listens where puppet-shim did")
    wait_until(lambda: "puppet-shim" not in machine.run("systemctl", "list-units", "--all"), 10, "systemd forgets the units", Unmet)
