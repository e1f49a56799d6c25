"""Puppet servers: the packaged puppetserver, several times side by side, each with its own directories."""

import shutil
import signal
from contextlib import contextmanager
from pathlib import Path

from lab import plan
from lab.accesslog import AccessLog
from lab.process import Failure, Process, run, wait_until
from lab.template import fill

PACKAGED = Path("/etc/puppet/puppetserver")
CA_COMMAND = "/usr/share/puppetserver/cli/apps/ca"

JAVA = [
    "java",
    # One JRuby fits into this.
    "-Xms512m", "-Xmx512m",
    # A short-lived server on few cores: these halve its start.
    "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
    "-Djruby.logger.class=com.puppetlabs.jruby_utils.jruby.Slf4jLogger",
    "-Djruby.lib=/usr/share/jruby/lib",
    "-jar", "/usr/share/puppetserver/puppetserver.jar",
]


class Server:
    def __init__(self, host, directory, code, idle):
        """`idle`: seconds until it closes a connection on which nothing happens."""
        self.host = host
        self.name = host.name
        self.port = plan.SERVERS[host.name]
        self.certname = plan.fqdn(host.name)
        self.directory = directory
        self.code = code
        self.idle = idle
        self.restart_file = directory / "run" / "restart"
        self.access_log = AccessLog(self.name, directory / "log" / "access.log")
        self.process = None

    def configure(self):
        words = {"directory": self.directory, "code": self.code, "certname": self.certname, "port": self.port,
                 "idle": self.idle * 1000}
        for part in ("puppet", "puppetserver", "ssl", "ca", "var", "log", "run", "mounts"):
            (self.directory / part).mkdir(parents=True)
        for name in ("puppet.conf", "fileserver.conf"):
            (self.directory / "puppet" / name).write_text(fill(f"server/{name}", **words))
        for name in ("logback.xml", "access.xml"):
            (self.directory / "puppetserver" / name).write_text(fill(f"server/{name}", **words))

        conf_d = self.directory / "puppetserver" / "conf.d"
        conf_d.mkdir()
        for name in ("auth.conf", "ca.conf", "global.conf", "puppetserver.conf", "webserver.conf"):
            (conf_d / name).write_text(fill(f"server/{name}", **words))
        for name in ("metrics.conf", "web-routes.conf"):
            shutil.copy(PACKAGED / "conf.d" / name, conf_d)

        services_d = self.directory / "puppetserver" / "services.d"
        services_d.mkdir()
        shutil.copy(PACKAGED / "services.d" / "bootstrap.cfg", services_d)
        services_d.joinpath("ca.cfg").write_text("\n".join([
            f"puppetlabs.services.ca.{self.ca_service()}",
            "puppetlabs.trapperkeeper.services.watcher.filesystem-watch-service/filesystem-watch-service",
            "",
        ]))

        for mount in ("lab", "restricted"):
            (self.directory / "mounts" / mount).mkdir()
            (self.directory / "mounts" / mount / "whoami").write_text(f"{self.name}\n")
        self.give_to_puppet()

    def ca_service(self):
        """A server without the CA answers 404 to everything under /puppet-ca."""
        return "certificate-authority-disabled-service/certificate-authority-disabled-service"

    def give_to_puppet(self):
        run(["chown", "-R", "puppet:puppet", str(self.directory)])

    def start(self):
        self.restart_file.write_text("0")
        shutil.chown(self.restart_file, "puppet", "puppet")
        command = [*JAVA, "--config", self.directory / "puppetserver" / "conf.d",
                   "--bootstrap-config", self.directory / "puppetserver" / "services.d",
                   "--restart-file", self.restart_file]
        argv = self.host.argv(*map(str, command), user="puppet")
        self.process = Process(argv, self.directory / "log" / "console.log")

    def wait_ready(self):
        """The server counts its completed starts in the restart file; the packaged unit waits for that too."""
        def ready():
            if not self.process.running():
                raise Failure(f"{self.name} did not start\n{self.process.log.read_text()}")
            return self.restart_file.read_text().startswith("1")
        wait_until(ready, 1200, f"{self.name} is ready")

    def running(self):
        return self.process is not None and self.process.running()

    def stop(self):
        """At once: its port refuses from here on, and it has nothing worth saving."""
        if self.process:
            self.process.kill()

    # What can be wrong with a server that DNS still names. Each is a context, after which the server is well again.

    @contextmanager
    def refusing(self):
        """Its host is up and refuses the connection: the server is stopped."""
        self.stop()
        yield
        self.start()
        self.wait_ready()

    def unplugged(self):
        """Its host is off the link: nobody answers ARP."""
        return self.host.unplugged()

    def black_holed(self):
        """Its host is on the link, and every packet to the server's port is dropped without a word."""
        return self.host.dropping(self.port)

    @contextmanager
    def mute(self):
        """The process is stopped where it stands: the kernel still accepts for it, and then nothing comes."""
        self.process.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.signal(signal.SIGCONT)


class CaServer(Server):
    """The server that is the certificate authority too."""

    def ca_service(self):
        return "certificate-authority-service/certificate-authority-service"

    def set_up(self, others):
        """Make the CA, its own certificate and those of the other servers, all before any server runs.

        `--ca-client` is the one way to sign without a running CA, which saves waiting for it first. It also makes
        these servers administrators of the CA, which no scenario depends on.
        """
        names = ",".join(plan.alternative_names(self.name))
        self.command("setup", "--ca-name", "Lab CA", "--certname", self.certname, "--subject-alt-names", names)
        certnames = {}
        for server in others:
            certnames.setdefault(",".join(plan.alternative_names(server.name)), []).append(server.certname)
        for names, alike in certnames.items():
            self.command("generate", "--ca-client", "--certname", ",".join(alike), "--subject-alt-names", names)
        for server in others:
            self.hand_over_certificate(server)
        self.autosign(True)
        self.give_to_puppet()

    def hand_over_certificate(self, server):
        ssl = self.directory / "ssl"
        for kind in ("certs", "private_keys", "public_keys"):
            (server.directory / "ssl" / kind).mkdir()
            shutil.move(ssl / kind / f"{server.certname}.pem", server.directory / "ssl" / kind)
        shutil.copy(ssl / "certs" / "ca.pem", server.directory / "ssl" / "certs")
        shutil.copy(ssl / "crl.pem", server.directory / "ssl")
        server.give_to_puppet()

    def autosign(self, enabled):
        """The server reads this list anew for every request."""
        (self.directory / "puppet" / "autosign.conf").write_text("*\n" if enabled else "")

    @contextmanager
    def manual_signing(self):
        self.autosign(False)
        try:
            yield
        finally:
            self.autosign(True)

    def sign(self, certname):
        self.command("sign", "--certname", certname)

    def command(self, action, *arguments):
        """`puppetserver ca ACTION`, on this host."""
        config = str(self.directory / "puppet" / "puppet.conf")
        run(self.host.argv(CA_COMMAND, action, "--config", config, *arguments))
