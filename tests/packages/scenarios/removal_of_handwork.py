"""What leads to puppet-shim though no command of Puppet's has written it is named, when the package is removed: each line of it.

A proxy in the environment, which goes before puppet.conf; the site's own names in the hosts file; other ports than the usual. What only
looks like that is left out. Where Puppet does not answer, the removal says so, names the lines that it would have taken out, and goes on.
"""

from bench.scenario import CONFIG, demand
from lab.evidence import Unmet

DEBIAN, AIO = "/etc/puppet/puppet.conf", "/etc/puppetlabs/puppet/puppet.conf"
SCRIPT = "/usr/libexec/puppet-shim/leave-puppet"

LISTEN = 'listen = ["127.0.0.1:8139", "[::1]:9139"]\n[role.ca]\nports = [8141, 9141]\n'

# Each line with whether it leads there.
FILES = {
    DEBIAN: [
        ("[main]", False),
        ("domain = corp.example", False),
        ("server = primary.$domain", False),
        ("serverport = 8140", False),
        ("ca_port = 9141", True),
        ("report_port = 91410", False),
        ("pluginsource = puppet://primary.corp.example:9139/plugins", True),
        ("[agent]", False),
        ("report_server = localhost", True),
    ],
    "/etc/hosts": [
        ("127.0.0.1 localhost", False),
        ("127.0.1.1 agent.example.test agent", False),
        ("127.0.0.1 Primary.corp.example # the site's", True),
        ("::1 puppetca.corp.example", True),
        ("192.0.2.1 primary.corp.example", False),
        ("127.0.0.1 another.corp.example", False),
    ],
    "/etc/default/puppet": [
        ("PUPPET_EXTRA_OPTS=--verbose", False),
        ('http_proxy="http://127.0.0.1:8139"', True),
        ("no_proxy=127.0.0.1:8139", False),
    ],
    "/etc/sysconfig/puppet": [("HTTP_PROXY=http://[::1]:9139/", True), ("http_proxy=http://127.0.0.1:3128", False)],
    "/etc/environment": [("#http_proxy=http://localhost:8139", False), ("http_proxy=http://localhost:8139", True)],
    "/etc/systemd/system/puppet.service.d/proxy.conf": [
        ("[Service]", False),
        ("Environment=LANG=C http_proxy=http://127.0.0.1:8139", True),
        ("Environment=http_proxy=http://proxy.corp.example:8139", False),
    ],
}

PROXY = "[main]\nhttp_proxy_host = 127.0.0.1\nhttp_proxy_port = 8139\n"


def run(bench):
    machine = bench.boot()
    machine.install(bench.package.deb)
    machine.write(CONFIG, LISTEN)
    for path, lines in FILES.items():
        machine.write(path, "".join(f"{line}\n" for line, _ in lines))
    said = machine.run("apt-get", "remove", "--yes", "puppet-shim", error=Unmet)
    for path, lines in FILES.items():
        for number, (line, leads) in enumerate(lines, 1):
            named = f"remove from {path} line {number}:{line}\n" in said
            demand(named == leads, f"{path} line {number}, {line}, is {'not ' * leads}named\n{said}")
    demand("systemctl restart puppet" in said, f"the removal does not say how the agent's service forgets its proxy\n{said}")

    machine.install(bench.package.deb)
    machine.path(DEBIAN).unlink()
    machine.write(AIO, PROXY)
    # Longer than anybody waits for an installation of packages.
    machine.write("/opt/puppetlabs/bin/puppet", "#!/bin/sh\nexec sleep 3600\n")
    machine.run("chmod", "+x", "/opt/puppetlabs/bin/puppet")
    machine.run("sed", "--in-place", "s/^readonly PATIENCE=60$/readonly PATIENCE=2/", SCRIPT)
    said = machine.run("apt-get", "remove", "--yes", "puppet-shim", error=Unmet)
    demand("/opt/puppetlabs/bin/puppet has not answered for 2 s" in said, f"the removal does not say that Puppet does not answer\n{said}")
    for line in ("2:http_proxy_host = 127.0.0.1", "3:http_proxy_port = 8139"):
        demand(f"{AIO} line {line}" in said, f"the removal does not name {line}\n{said}")
    demand(machine.path(AIO).read_text() == PROXY, f"{AIO} has changed nonetheless")
