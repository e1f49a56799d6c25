"""The package is removed while puppet.conf names it as the proxy.

Without it, and with that line, no agent could ever install it again. So the lines go, by the agent's own command; what an
administrator may want otherwise is named. It is asked of both kinds of agent package; where there is none, nothing is.
"""

from bench.scenario import CONFIG, demand
from lab.evidence import Unmet

# Debian's command, at the place where that of Puppet's and OpenVox's own packages is.
AIO = '#!/bin/sh\nexec /usr/bin/puppet "$@" --confdir /etc/puppetlabs/puppet\n'

CONF = """[main]
server = puppet.example.test
http_proxy_host = 127.0.0.1
http_proxy_port = 8139
report_port = 8142
pluginsource = puppet://puppet.example.test:8143/plugins
[agent]
runinterval = 1800
"""

# Another proxy, though on this host.
OTHER = "[main]\nhttp_proxy_host = 127.0.0.1\nhttp_proxy_port = 3128\n"

# One proxy, half of it in each section, on another port than ours by default.
HALVES = """[main]
server = puppet.example.test
http_proxy_host = 127.0.0.1
[agent]
http_proxy_port = 9000
runinterval = 1800
"""

LISTEN = "listen = [\n  '127.0.0.1:8139', # as ever\n  '127.0.0.1:9000',\n]\n"


def run(bench):
    machine = bench.installed()
    debian, aio = "/etc/puppet/puppet.conf", "/etc/puppetlabs/puppet/puppet.conf"
    machine.write("/opt/puppetlabs/bin/puppet", AIO)
    machine.run("chmod", "+x", "/opt/puppetlabs/bin/puppet")
    machine.write(debian, CONF)
    machine.write(aio, CONF)
    hosts = machine.path("/etc/hosts")
    hosts.write_text(hosts.read_text() + "127.0.0.1 puppet.example.test puppetca\n")
    said = machine.run("apt-get", "remove", "--yes", "puppet-shim", error=Unmet)
    for conf in (debian, aio):
        text = machine.path(conf).read_text()
        demand("http_proxy" not in text, f"{conf} still names the proxy\n{text}\n{said}")
        for line in ("server = puppet.example.test", "report_port = 8142", "runinterval = 1800"):
            demand(line in text, f"{conf} has lost {line}\n{text}")
        demand(f"out of [main] in {conf}" in said, f"the removal does not say what it did to {conf}\n{said}")
    for line in ("report_port = 8142", "pluginsource = puppet://", "127.0.0.1 puppet.example.test puppetca"):
        demand(line in said, f"the removal does not name {line}\n{said}")

    machine.write(debian, OTHER)
    machine.write(aio, OTHER)
    machine.install(bench.package.deb)
    machine.run("apt-get", "remove", "--yes", "puppet-shim", error=Unmet)
    for conf in (debian, aio):
        demand(machine.path(conf).read_text() == OTHER, f"{conf} has lost a proxy that is not ours")

    machine.write(debian, HALVES)
    machine.write(aio, HALVES)
    machine.install(bench.package.deb)
    machine.write(CONFIG, LISTEN)
    said = machine.run("apt-get", "remove", "--yes", "puppet-shim", error=Unmet)
    for conf in (debian, aio):
        text = machine.path(conf).read_text()
        demand("http_proxy" not in text and "runinterval = 1800" in text, f"{conf} is\n{text}\n{said}")

    # Nothing to ask at all.
    machine.run("rm", "-r", "/opt/puppetlabs", "/etc/puppet")
    machine.install(bench.package.deb)
    machine.run("dpkg", "--purge", "puppet-agent", error=Unmet)
    machine.run("dpkg", "--purge", "puppet-shim", error=Unmet)
