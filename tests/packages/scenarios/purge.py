"""The package is purged, and the host is as it was before.

What the machine's other programs write meanwhile, their logs and databases, is theirs.
"""

from bench.machine import SERVICE, SOCKET
from bench.scenario import demand
from bench.server import certified
from lab.evidence import Unmet
from lab.process import wait_until
from scenarios.ca_file import CA, COPIER, COPY, WATCH

# Of dpkg, apt, systemd and man: they keep books.
OTHERS = ("/var/log/", "/var/lib/dpkg/", "/var/lib/apt/", "/var/cache/apt/", "/var/cache/man/", "/var/cache/debconf/",
          "/var/lib/systemd/", "/root/puppet-shim_", "/etc/.pwd.lock", "/var/tmp/systemd-private-", "/tmp/systemd-private-")


def run(bench):
    machine = bench.boot()
    # What the agent has, of which a copy is made.
    machine.write(CA, certified(bench.directory, "Puppet CA")[0].read_text())
    before = everything(machine)
    machine.run("touch", "/mark")
    machine.install(bench.package.deb)
    bench.configure()
    bench.works()
    demand(machine.path("/var/lib/private/puppet-shim").is_dir(), "the state directory is elsewhere than this looks for it")
    wait_until(machine.path(COPY).exists, 10, "the agent's CA certificates are copied", Unmet)

    machine.run("apt-get", "remove", "--yes", "puppet-shim", error=Unmet)
    for unit in (SOCKET, SERVICE, WATCH, COPIER):
        demand(machine.property(unit, "ActiveState") == "inactive", f"{unit} runs after the removal")
    demand(not machine.path(COPY).parent.exists(), "a removal leaves the copy of the agent's CA certificates")
    demand(machine.path("/etc/puppet-shim/puppet-shim.toml").exists(), "a removal takes the configuration along")
    demand(machine.path("/var/lib/private/puppet-shim").is_dir(), "a removal takes the state along")

    machine.run("apt-get", "purge", "--yes", "puppet-shim", error=Unmet)
    left = [path for path in sorted(everything(machine) - before) if path != "/mark" and not path.startswith(OTHERS)]
    demand(not left, f"after the purge there are: {' '.join(left)}")
    newer = machine.run("find", "/", "-xdev", "-newer", "/mark", "-type", "f").splitlines()
    left = [path for path in newer if not path.startswith(OTHERS)]
    demand(not left, f"after the purge these are not what they were: {' '.join(left)}")
    named = machine.run("find", "/", "-xdev", "-name", "*puppet-shim*", "-not", "-path", "/root/*").split()
    demand(not named, f"after the purge there are: {' '.join(named)}")
    wait_until(lambda: "puppet-shim" not in machine.run("systemctl", "list-units", "--all"), 10,
               "systemd forgets the units", Unmet)


def everything(machine):
    return set(machine.run("find", "/", "-xdev").splitlines())
