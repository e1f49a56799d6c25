"""The agent's CA certificates, which with Debian's agent only root may read, and which are not there before its first run.

Without them the service starts. A process that runs notices when they come, when others take their place, and when they go; one
that starts later has them; and so it is where systemd has no credentials, as before 247.
"""

from bench.machine import SERVICE
from bench.scenario import CONFIG, demand
from bench.server import certified
from lab.evidence import Unmet
from lab.process import wait_until

CA = "/var/lib/puppet/ssl/certs/ca.pem"
COPY = "/run/puppet-shim-ca/ca.pem"

# Which units there are, and why there are these, is in systemd/.
WATCH = "puppet-shim-ca.path"
COPIER = "puppet-shim-ca.service"


def run(bench):
    machine = bench.installed()
    config = machine.path(CONFIG)
    config.write_text(config.read_text().replace("check = false", "check = true"))
    # As Debian's package has it.
    machine.run("install", "-d", "-o", "puppet", "-g", "puppet", "-m", "0750", "/var/lib/puppet")
    bench.works()
    demand(machine.active(SERVICE), "without the file the service does not start")
    machine.said("servers' certificates are not checked against the CA", WATCH)
    # Of a server that says nothing. The next look is another.
    machine.said("its certificate could not be looked at")
    first = machine.main_pid()
    demand(machine.active(WATCH), "nobody waits for the file")

    # A server that this CA has not certified, asked for by another name: what was found for the first is remembered.
    bench.server.show(*certified(bench.directory, "puppet"))
    (ca, _), (renewed, _) = certified(bench.directory, "Puppet CA"), certified(bench.directory, "Puppet CA renewed")
    machine.run("install", "-d", "-o", "puppet", "-g", "puppet", CA.rpartition("/")[0])
    replace(machine, ca.read_text())
    copied(machine, ca.read_text())
    bench.works(name="puppet")
    machine.said("its certificate", COPY)
    demand(machine.main_pid() == first, "it has taken another process to notice that the file has come")

    replace(machine, ca.read_text() + renewed.read_text())
    copied(machine, ca.read_text() + renewed.read_text())
    only_certificates(machine, ca.read_text())

    machine.run("rm", CA)
    settled(machine, lambda: not machine.path(COPY).exists(), "the copy goes with the file")
    replace(machine, ca.read_text())
    copied(machine, ca.read_text())
    without_the_copy(bench, machine, ca.read_text())
    without_credentials(bench, machine, ca.read_text())


def replace(machine, text):
    """As the agent does it: the whole file at once."""
    machine.write(f"{CA}.new", text)
    machine.run("mv", f"{CA}.new", CA)
    machine.run("chown", "puppet:puppet", CA)


def copied(machine, text):
    settled(machine, lambda: machine.path(COPY).exists() and machine.path(COPY).read_text() == text, "what is in the file is copied")
    mode = machine.run("stat", "--format", "%A %U", "/run/puppet-shim-ca", COPY).split()
    demand(mode == ["drwxr-xr-x", "root", "-rw-r--r--", "root"], f"the copy is {mode}")


def settled(machine, condition, what):
    wait_until(condition, 10, what, Unmet)
    # While it runs, no change is seen.
    wait_until(lambda: machine.property(COPIER, "ActiveState") == "inactive", 10, "who copies is done", Unmet)


def only_certificates(machine, certificate):
    """The directory is not root's: what somebody has put a link to in there is not for everybody to read."""
    secret = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
    machine.write("/etc/secret", f"root:$y$hash\n{secret}{certificate}word\n{secret}")
    machine.run("chmod", "0600", "/etc/secret")
    machine.run("ln", "-s", "/etc/secret", f"{CA}.new")
    machine.run("mv", f"{CA}.new", CA)
    copied(machine, certificate)


def without_the_copy(bench, machine, certificate):
    """systemd passes the file on when the process starts, too."""
    machine.run("systemctl", "stop", WATCH)
    machine.run("rm", COPY)
    forget(machine)
    bench.works(name="puppet")
    machine.said("its certificate", f"/{SERVICE}/ca.pem")


def without_credentials(bench, machine, certificate):
    machine.write(f"/etc/systemd/system/{SERVICE}.d/old.conf", "[Service]\nLoadCredential=\nSetCredential=\n")
    forget(machine)
    before = judged_by_copy(machine)
    machine.reboot()
    copied(machine, certificate)
    bench.works(name="puppet")
    wait_until(lambda: judged_by_copy(machine) > before, 10, "a certificate is compared with the copy after the reboot", Unmet)
    environment = machine.path(f"/proc/{machine.main_pid()}/environ").read_bytes()
    demand(b"CREDENTIALS_DIRECTORY" not in environment, "there are credentials")


def judged_by_copy(machine):
    return sum("its certificate" in line and COPY in line for line in machine.log().splitlines())


def forget(machine):
    """The next process looks at the server's certificate again."""
    machine.run("systemctl", "stop", SERVICE)
    machine.run("rm", "/var/lib/private/puppet-shim/memory.json")
