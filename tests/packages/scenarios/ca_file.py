"""The agent's CA certificates, which with Debian's agent only root may read, and which are not there before its first run.

Without them the service starts. Once they are there, the next process has them: systemd reads them for it.
"""

from bench.machine import SERVICE
from bench.scenario import CONFIG, demand
from bench.server import certified

CA = "/var/lib/puppet/ssl/certs/ca.pem"


def run(bench):
    machine = bench.installed(idle_exit='"1s"')
    config = machine.path(CONFIG)
    config.write_text(config.read_text().replace("check = false", "check = true"))
    # As Debian's package has it.
    machine.run("install", "-d", "-o", "puppet", "-g", "puppet", "-m", "0750", "/var/lib/puppet")
    with bench.tunnel():
        demand(machine.active(SERVICE), "without the file the service does not start")
    machine.said("servers' certificates are not checked against the CA", "the next start reads it")
    bench.idle()

    certificate, _ = certified(bench.directory, "Puppet CA")
    machine.write(CA, certificate.read_text())
    machine.run("chown", "-R", "puppet:puppet", "/var/lib/puppet")
    # A server that this CA has not certified, asked for by another name: what was found for the first is remembered.
    bench.server.show(*certified(bench.directory, "puppet"))
    bench.works(name="puppet")
    machine.said("its certificate", f"/{SERVICE}/ca.pem")
